// MLX distributed: the group of this process, its operations on arrays, and frames between
// neighbours. A process is of one group at most, since MLX keeps one for each backend.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mlx/distributed/distributed.h"
#include "mlx/distributed/ops.h"
#include "mlx/ops.h"
#include "mlx/stream.h"
#include "mlx/transforms.h"
#include "shim_internal.h"

using namespace shim;

namespace {

namespace dist = mx::distributed;
using Bytes = std::vector<uint8_t>;

/** Bytes of frames that may wait to be sent; whoever would add more is told so. */
constexpr size_t QUEUE_BYTES_MAX = 1u << 30;

/** Longest frame. */
constexpr size_t FRAME_BYTES_MAX = 256u << 20;

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

/**
 * Frames to the next rank and from the one before. MLX waits without a limit, so two threads wait
 * in place of the caller. Nothing is received that was not asked for: MLX's ring has one socket for
 * each neighbour, and what comes for a sum must not be taken for a frame.
 */
class FrameLink : public std::enable_shared_from_this<FrameLink> {
 public:
  explicit FrameLink(dist::Group group) : group_(std::move(group)) {}

  /** The threads hold this: a wait of MLX's that never ends is left behind. */
  void start() {
    std::thread([self = shared_from_this()] { self->send_loop(); }).detach();
    std::thread([self = shared_from_this()] { self->receive_loop(); }).detach();
  }

  void send(Bytes frame) {
    if (frame.size() > FRAME_BYTES_MAX) {
      throw std::invalid_argument(
          "found a frame of " + std::to_string(frame.size()) + " bytes, " +
          std::to_string(FRAME_BYTES_MAX) + " at most needed");
    }
    const std::lock_guard lock(mutex_);
    check(send_error_);
    if (queued_bytes_ + frame.size() > QUEUE_BYTES_MAX) {
      throw std::runtime_error(std::to_string(queued_bytes_) + " bytes wait to be sent");
    }
    queued_bytes_ += frame.size();
    queue_.push_back(std::move(frame));
    changed_.notify_all();
  }

  /** Whether a frame came within `ms`, which then is `frame`. */
  bool receive(int ms, Bytes& frame) {
    std::unique_lock lock(mutex_);
    ask(lock);
    changed_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return is_due(); });
    if (has_frame_) {
      frame = std::move(received_);
      has_frame_ = false;
      return true;
    }
    check(receive_error_);
    check(send_error_);
    return false;
  }

  /** Waits until a frame has come, or none will. */
  void arrival() {
    std::unique_lock lock(mutex_);
    ask(lock);
    changed_.wait(lock, [this] { return is_due(); });
  }

  void close() {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
    changed_.notify_all();
  }

 private:
  int next() const { return (group_.rank() + 1) % group_.size(); }
  int before() const { return (group_.rank() + group_.size() - 1) % group_.size(); }

  bool is_due() const {
    return has_frame_ || is_closed_ || !receive_error_.empty() || !send_error_.empty();
  }

  void ask(const std::unique_lock<std::mutex>&) {
    if (has_frame_ || is_closed_ || !receive_error_.empty()) return;
    is_asked_ = true;
    changed_.notify_all();
  }

  static void check(const std::string& error) {
    if (!error.empty()) throw std::runtime_error(error);
  }

  void send_loop() {
    run(send_error_, "send: ", [this] {
      const auto stream = mx::new_stream(mx::Device::cpu);
      for (Bytes frame; take(frame);) {
        const auto length = static_cast<uint32_t>(frame.size());
        mx::eval(dist::send(mx::array({length}, {1}, mx::uint32), next(), group_, stream));
        if (length == 0) continue;
        const mx::array bytes(frame.data(), {static_cast<int>(length)}, mx::uint8);
        mx::eval(dist::send(bytes, next(), group_, stream));
      }
    });
  }

  bool take(Bytes& frame) {
    std::unique_lock lock(mutex_);
    // What the last one took is sent, and counts no more.
    queued_bytes_ -= frame.size();
    changed_.wait(lock, [this] { return is_closed_ || !queue_.empty(); });
    if (queue_.empty()) return false;
    frame = std::move(queue_.front());
    queue_.pop_front();
    return true;
  }

  void receive_loop() {
    run(receive_error_, "receive: ", [this] {
      const auto stream = mx::new_stream(mx::Device::cpu);
      while (await_request()) {
        auto length = dist::recv({1}, mx::uint32, before(), group_, stream);
        const size_t count = length.item<uint32_t>();
        if (count > FRAME_BYTES_MAX) throw std::runtime_error("it sent what is no frame");
        Bytes frame;
        if (count > 0) {
          auto bytes = dist::recv({static_cast<int>(count)}, mx::uint8, before(), group_, stream);
          mx::eval(bytes);
          frame.assign(bytes.data<uint8_t>(), bytes.data<uint8_t>() + count);
        }
        const std::lock_guard lock(mutex_);
        received_ = std::move(frame);
        has_frame_ = true;
        is_asked_ = false;
        changed_.notify_all();
      }
    });
  }

  bool await_request() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_closed_ || is_asked_; });
    return !is_closed_;
  }

  /** Runs a thread's body; what it throws is kept, after what it did, for whoever asks next. */
  template <class Body>
  void run(std::string& error, const char* what, Body body) {
    std::string found;
    try {
      body();
      return;
    } catch (const std::exception& e) {
      found = e.what();
    } catch (...) {
      found = "an exception that is no std::exception";
    }
    const std::lock_guard lock(mutex_);
    error = what + found;
    changed_.notify_all();
  }

  const dist::Group group_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Bytes> queue_;
  size_t queued_bytes_ = 0;
  Bytes received_;
  bool has_frame_ = false, is_asked_ = false, is_closed_ = false;
  std::string send_error_, receive_error_;
};

/** What failed on a thread of its own: messages are kept for each thread, and that one is gone. */
struct Failure {
  std::mutex mutex;
  std::string reason;
};

Failure& failure() {
  static auto* state = new Failure;
  return *state;
}

/** As `guarded`, of a function that runs on a thread of its own. */
template <class Body>
int32_t guarded_aside(Body&& body) noexcept {
  return guarded([&] {
    try {
      return body();
    } catch (const std::exception& e) {
      const std::lock_guard lock(failure().mutex);
      failure().reason = e.what();
      throw;
    }
  });
}

/** The group of this process. Never destroyed: at exit, its threads may still use it. */
struct Joined {
  std::mutex mutex;
  std::shared_ptr<dist::Group> group;
  std::shared_ptr<FrameLink> link;
};

Joined& joined() {
  static auto* state = new Joined;
  return *state;
}

dist::Group group_now() {
  auto& state = joined();
  const std::lock_guard lock(state.mutex);
  if (!state.group) throw std::logic_error("this process is of no group");
  return *state.group;
}

std::shared_ptr<FrameLink> link_now() {
  auto& state = joined();
  const std::lock_guard lock(state.mutex);
  if (!state.link) throw std::logic_error("this process is of no group");
  return state.link;
}

dist::Group form(const std::string& backend, const std::string& input, const std::string& output) {
  if (input.empty()) return dist::init(true, backend);
  auto pipes = std::make_shared<PipeGather>(input, output);
  return dist::init(true, backend, [pipes](int, int size) -> dist::AllGatherFn {
    return [pipes, size](const char* data, char* out, size_t count) {
      pipes->gather(data, out, count, static_cast<size_t>(size));
    };
  });
}

}  // namespace

int32_t shim_distributed_available(const char* backend) {
  return guarded([=] { return dist::is_available(backend) ? 1 : 0; });
}

int32_t shim_distributed_init(const char* backend, const char* input, const char* output) {
  return guarded_aside([=] {
    auto group = std::make_shared<dist::Group>(form(backend, input, output));
    auto link = std::make_shared<FrameLink>(*group);
    auto& state = joined();
    const std::lock_guard lock(state.mutex);
    if (state.group) throw std::logic_error("this process is of a group already");
    state.group = group;
    state.link = link;
    link->start();
    return 0;
  });
}

int32_t shim_distributed_failure(void) {
  return guarded([] {
    const std::lock_guard lock(failure().mutex);
    return leave_text(failure().reason);
  });
}

int32_t shim_distributed_rank(void) { return guarded([] { return group_now().rank(); }); }

int32_t shim_distributed_size(void) { return guarded([] { return group_now().size(); }); }

int32_t shim_distributed_leave(void) {
  return guarded([] {
    auto& state = joined();
    const std::lock_guard lock(state.mutex);
    if (state.link) state.link->close();
    state.link.reset();
    state.group.reset();
    dist::clear_backends();
    return 0;
  });
}

int32_t shim_distributed_send(int32_t x, int32_t to) {
  return guarded([=] { return add(dist::send(at(x), to, group_now())); });
}

int32_t shim_distributed_recv(const int32_t* shape, int32_t ndim, int32_t type, int32_t from) {
  return guarded(
      [=] { return add(dist::recv(shape_of(shape, ndim), dtype_of(type), from, group_now())); });
}

int32_t shim_distributed_all_sum(int32_t x) {
  return guarded([=] { return add(dist::all_sum(at(x), group_now())); });
}

int32_t shim_distributed_all_gather(int32_t x) {
  return guarded([=] { return add(dist::all_gather(at(x), group_now())); });
}

int32_t shim_frame_send(
    const uint8_t* header, int32_t header_bytes, const uint8_t* body, int32_t body_bytes) {
  return guarded([=] {
    Bytes frame(static_cast<size_t>(header_bytes) + static_cast<size_t>(body_bytes));
    std::copy(header, header + header_bytes, frame.begin());
    std::copy(body, body + body_bytes, frame.begin() + header_bytes);
    link_now()->send(std::move(frame));
    return 0;
  });
}

int32_t shim_frame_receive(int32_t ms, int32_t* byte_count) {
  return guarded([=] {
    Bytes frame;
    if (!link_now()->receive(ms, frame)) return 0;
    *byte_count = leave_text(std::string(frame.begin(), frame.end()));
    return 1;
  });
}

int32_t shim_frame_arrival(void) {
  return guarded_aside([] {
    link_now()->arrival();
    return 0;
  });
}

int32_t shim_pipe_gather(
    const char* input,
    const char* output,
    const uint8_t* data,
    int32_t byte_count,
    int32_t ranks,
    uint8_t* out) {
  return guarded_aside([=] {
    const PipeGather pipes(input, output);
    pipes.gather(
        reinterpret_cast<const char*>(data), reinterpret_cast<char*>(out),
        static_cast<size_t>(byte_count), static_cast<size_t>(ranks));
    return 0;
  });
}
