// The side channel of a group over RDMA: how its ranks find each other without a coordinator.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace shim {

/** How long the side channel may take for a round: longer than the nodes give it. */
constexpr int GATHER_TIMEOUT_MS = 60'000;

/** A file descriptor that is closed with its owner. */
class Pipe {
 public:
  Pipe(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC)) {
    if (fd_ < 0) fail_with("open " + path);
  }
  ~Pipe() { close(fd_); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  void write_all(const char* data, size_t count) const {
    move_all(count, POLLOUT, [&](size_t at) { return ::write(fd_, data + at, count - at); });
  }
  void read_all(char* data, size_t count) const {
    move_all(count, POLLIN, [&](size_t at) { return ::read(fd_, data + at, count - at); });
  }

 private:
  [[noreturn]] static void fail_with(const std::string& what) {
    throw std::runtime_error("[jaccl] side channel: cannot " + what + ": " + std::strerror(errno));
  }

  template <class Move>
  void move_all(size_t count, short event, Move move) const {
    for (size_t at = 0; at < count;) {
      struct pollfd watched = {fd_, event, 0};
      const int ready = poll(&watched, 1, GATHER_TIMEOUT_MS);
      if (ready < 0 && errno == EINTR) continue;
      if (ready == 0) {
        throw std::runtime_error(
            "[jaccl] side channel: not all ranks came within " +
            std::to_string(GATHER_TIMEOUT_MS / 1000) + " s");
      }
      const ssize_t moved = move(at);
      if (moved < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (moved < 0) fail_with(event == POLLIN ? "read" : "write");
      if (moved == 0) throw std::runtime_error("[jaccl] side channel: the node has closed it");
      at += static_cast<size_t>(moved);
    }
  }

  int fd_;
};

/** Gathers the bytes of all ranks over the pipes of this process's node (spec §2.9). */
class PipeGather {
 public:
  // The node holds the other ends: opening waits for nobody. Writing never blocks a whole frame,
  // so that each wait for room has its limit.
  PipeGather(const std::string& input, const std::string& output)
      : input_(input, O_RDONLY), output_(output, O_WRONLY | O_NONBLOCK) {}

  void gather(const char* data, char* out, size_t count, size_t ranks) const {
    write_length(count);
    output_.write_all(data, count);
    const size_t found = read_length();
    if (found != count * ranks) {
      throw std::runtime_error(
          "[jaccl] side channel: found " + std::to_string(found) + " bytes of all ranks, " +
          std::to_string(count * ranks) + " needed");
    }
    input_.read_all(out, found);
  }

 private:
  void write_length(size_t count) const {
    char bytes[4];
    for (int i = 0; i < 4; i++) bytes[i] = static_cast<char>(count >> (8 * i) & 0xff);
    output_.write_all(bytes, 4);
  }
  size_t read_length() const {
    unsigned char bytes[4];
    input_.read_all(reinterpret_cast<char*>(bytes), 4);
    return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | static_cast<size_t>(bytes[3]) << 24;
  }

  Pipe input_, output_;
};

}  // namespace shim
