// Ends this process with its parent, even while the main thread is deep in native code.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#ifdef __APPLE__
#include <sys/event.h>
#include <sys/time.h>
#include <sys/types.h>
#endif

#include "shim_internal.h"

namespace {

constexpr int EXIT_PARENT_GONE = 113;

// Both forms leave data unread, so the fd may still be read elsewhere.
#ifdef __APPLE__

// poll(2) is not told of a hang-up there unless it asks for data, and then unread data would make
// it spin; an edge-triggered kevent reports each change once.
void wait_for_hang_up(int fd) {
  const int queue = kqueue();
  struct kevent change, event;
  EV_SET(&change, fd, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, nullptr);
  while (true) {
    const int count = kevent(queue, &change, 1, &event, 1, nullptr);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 || event.flags & (EV_EOF | EV_ERROR)) return;
  }
}

#else

void wait_for_hang_up(int fd) {
  // POLLRDHUP is for sockets; a pipe reports POLLHUP unasked.
  struct pollfd watched = {fd, POLLRDHUP, 0};
  while (true) {
    const int count = poll(&watched, 1, -1);
    if (count < 0 && errno == EINTR) continue;
    if (count != 0) return;
  }
}

#endif

}  // namespace

using namespace shim;

int32_t shim_watch_parent(int32_t fd) {
  return guarded([=] {
    // An own copy: closing or reusing the number elsewhere in this process changes nothing.
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) {
      throw std::invalid_argument(
          "file descriptor " + std::to_string(fd) + " is not open: " + std::strerror(errno));
    }
    std::thread([own] {
      wait_for_hang_up(own);
      _exit(EXIT_PARENT_GONE);
    }).detach();
    return 0;
  });
}

int32_t shim_yield(void) { return 0; }
