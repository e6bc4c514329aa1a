// Frames between the neighbours of a group of MLX's.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "mlx/distributed/distributed.h"
#include "mlx/distributed/ops.h"
#include "mlx/stream.h"
#include "mlx/transforms.h"
#include "shim_internal.h"

namespace shim {

namespace dist = mx::distributed;
using Bytes = std::vector<uint8_t>;

/** Bytes of frames that may wait to be sent; whoever would add more is told so. */
constexpr size_t QUEUE_BYTES_MAX = 1u << 30;

/** Longest frame. */
constexpr size_t FRAME_BYTES_MAX = 256u << 20;

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

}  // namespace shim
