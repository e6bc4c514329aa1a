// What the ranks' connections need of POSIX sockets. No handle is inherited by child processes.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace exo::kernels {

using Clock = std::chrono::steady_clock;

/** Milliseconds until then, rounded up; 0 when it has passed. For poll(). */
int ms_until(Clock::time_point then);

/** A file descriptor that is closed with it. */
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/** A flag that poll() waits for. */
class Signal {
 public:
  /** @throws std::runtime_error when the process has no descriptor left. */
  Signal();
  void raise() const;
  void clear() const;
  bool is_raised() const;
  /** Readable while it is raised. */
  int fd() const { return read_.get(); }

 private:
  Fd read_, write_;
};

/** As people write it: 10.0.0.2:80, [fe80::1%eth0]:80. */
std::string address_text(const std::string& ip, int port);

/** A socket that listens; port 0 takes any. @throws std::runtime_error that names the address. */
Fd listen_at(const std::string& ip, int port);

/** The port that a socket is bound to. */
int port_of(const Fd& socket);

/** The next who connects to a listener, not blocking; none when there is nobody. */
Fd accept_next(const Fd& listener);

/**
 * A socket on its way to an address, not blocking; `error` is 0, EINPROGRESS or why there is none.
 * @throws std::runtime_error when that is no address.
 */
Fd connect_to(const std::string& ip, int port, int& error);

/** Why a connection on its way was not made, or 0. */
int connect_error(const Fd& socket);

/** Whether there is something to read, an end included. */
bool is_readable(const Fd& socket);

/** Sends bytes, never blocking or raising SIGPIPE; how many, or -1 as send(). */
int64_t send_now(const Fd& socket, const void* bytes, size_t count);

}  // namespace exo::kernels
