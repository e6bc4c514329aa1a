#include "sockets.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <stdexcept>

namespace exo::kernels {

namespace {

/** Who wait to be accepted; a rank expects one, the rest are strangers. */
constexpr int BACKLOG = 64;

#ifdef MSG_NOSIGNAL
constexpr int SEND_FLAGS = MSG_NOSIGNAL;
#else
constexpr int SEND_FLAGS = 0;  // SO_NOSIGPIPE does it there.
#endif

void set_option(int fd, int level, int name) {
  const int on = 1;
  setsockopt(fd, level, name, &on, sizeof on);
}

/** Not blocking, not inherited; small frames leave at once. */
void prepare(int fd) {
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY);
#ifdef SO_NOSIGPIPE
  set_option(fd, SOL_SOCKET, SO_NOSIGPIPE);
#endif
}

/** From its making, where the system can: a child forked meanwhile would keep it open. */
Fd new_socket(int family) {
#ifdef SOCK_CLOEXEC
  Fd made(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
#else
  Fd made(socket(family, SOCK_STREAM, 0));
#endif
  if (made) prepare(made.get());
  return made;
}

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(const std::string& ip, int port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  const bool is_port = port >= 0 && port <= 65535;
  if (!is_port || getaddrinfo(ip.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    throw std::runtime_error("Cannot use \"" + address_text(ip, port) +
                             "\": an IPv4 or IPv6 address and a port are needed");
  }
  return Addresses(found, freeaddrinfo);
}

std::string why(int error) {
  if (error == EADDRINUSE) return "address in use";
  if (error == EADDRNOTAVAIL) return "this machine has no such address";
  return strerror(error);
}

}  // namespace

int ms_until(Clock::time_point then) {
  using std::chrono::milliseconds;
  const auto left = std::chrono::ceil<milliseconds>(then - Clock::now()).count();
  return int(std::clamp<int64_t>(left, 0, 1'000'000));
}

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}

Signal::Signal() {
  int ends[2];
  if (pipe(ends) != 0) {
    throw std::runtime_error(std::string("Cannot make a pipe: ") + strerror(errno));
  }
  read_ = Fd(ends[0]);
  write_ = Fd(ends[1]);
  for (int fd : ends) {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  }
}

void Signal::raise() const {
  const char byte = 1;
  // A full pipe is raised already.
  while (write(write_.get(), &byte, 1) < 0 && errno == EINTR) continue;
}

void Signal::clear() const {
  char bytes[64];
  while (read(read_.get(), bytes, sizeof bytes) > 0) continue;
}

bool Signal::is_raised() const { return is_readable(read_); }

std::string address_text(const std::string& ip, int port) {
  const bool is_v6 = ip.find(':') != std::string::npos;
  return (is_v6 ? "[" + ip + "]" : ip) + ":" + std::to_string(port);
}

Fd listen_at(const std::string& ip, int port) {
  const Addresses address = resolve(ip, port);
  Fd listener = new_socket(address->ai_family);
  if (listener) set_option(listener.get(), SOL_SOCKET, SO_REUSEADDR);
  const bool listens = listener &&
                       bind(listener.get(), address->ai_addr, address->ai_addrlen) == 0 &&
                       listen(listener.get(), BACKLOG) == 0;
  if (listens) return listener;
  throw std::runtime_error("Cannot listen at " + address_text(ip, port) + ": " + why(errno));
}

int port_of(const Fd& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length);
  const bool is_v6 = address.ss_family == AF_INET6;
  return ntohs(is_v6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                     : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

Fd accept_next(const Fd& listener) {
#ifdef SOCK_CLOEXEC
  Fd accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
#else
  Fd accepted(accept(listener.get(), nullptr, nullptr));
#endif
  if (accepted) prepare(accepted.get());
  return accepted;
}

Fd connect_to(const std::string& ip, int port, int& error) {
  const Addresses address = resolve(ip, port);
  Fd made = new_socket(address->ai_family);
  const bool is_made = made && connect(made.get(), address->ai_addr, address->ai_addrlen) == 0;
  error = is_made ? 0 : errno;
  if (error == EINTR) error = EINPROGRESS;  // It goes on all the same.
  if (error != 0 && error != EINPROGRESS) return Fd();
  return made;
}

int connect_error(const Fd& socket) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

bool is_readable(const Fd& socket) {
  pollfd polled{socket.get(), POLLIN, 0};
  return poll(&polled, 1, 0) > 0;
}

int64_t send_now(const Fd& socket, const void* bytes, size_t count) {
  while (true) {
    const ssize_t sent = send(socket.get(), bytes, count, SEND_FLAGS);
    if (sent >= 0 || errno != EINTR) return sent;
  }
}

}  // namespace exo::kernels
