// Frames between neighbours: u32 kind, u32 length (little-endian, as all our machines are), content.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sockets.h"

namespace exo::kernels {

enum class FrameKind : uint32_t {
  beat,   // A sign of life.
  step,   // What the caller sends.
  sum,    // A part of a sum.
  token,  // Passes round the ring once all have connected.
  fault,  // u32 rank that is gone, and why.
};
constexpr int FRAME_KINDS = 5;
constexpr size_t FRAME_HEADER_BYTES = 8;

struct Frame {
  FrameKind kind{};
  size_t size = 0;
  std::unique_ptr<uint8_t[]> bytes;
};

struct ByteView {
  const void* data = nullptr;
  size_t size = 0;
};

/** How reading or sending ended. */
struct Traffic {
  size_t bytes = 0;
  bool is_over = false;  // The connection has ended, or what came is no frame;
  std::string why;       // then what the neighbour did, e.g. "has closed the connection".
};

/** What a neighbour did when a connection fails with this errno; 0 is an orderly end. */
std::string end_text(int error);

/** Puts together the frames of one connection. One thread at a time. */
class FrameReader {
 public:
  FrameReader() : staged_(new uint8_t[STAGED_BYTES]) {}

  /** Reads what has come, up to about `budget` bytes, and gives each whole frame to `take`. */
  Traffic read(const Fd& socket, size_t budget, const std::function<void(Frame)>& take);

 private:
  static constexpr size_t STAGED_BYTES = 64 * 1024;

  /** Frames of the staged bytes. False: there are bytes that are no frame. */
  bool unpack(const std::function<void(Frame)>& take);

  std::unique_ptr<uint8_t[]> staged_;
  size_t begin_ = 0, end_ = 0;
  Frame frame_;
  size_t filled_ = 0;
  bool has_header_ = false;
};

/** Sends frames on one connection: at once if it takes them, else when it does. Any thread. */
class FrameSender {
 public:
  explicit FrameSender(size_t queue_bytes_max) : queue_bytes_max_(queue_bytes_max) {}

  /**
   * Sends or queues a frame of these parts.
   * @throws std::runtime_error when the frame or the queue would be too long.
   */
  Traffic send(const Fd& socket, FrameKind kind, std::initializer_list<ByteView> parts);
  /** Sends a frame only if none waits, and may drop it: for signs of life and last words. */
  void offer(const Fd& socket, FrameKind kind, std::initializer_list<ByteView> parts);
  /** Sends what is queued, as far as the connection takes it. */
  Traffic flush(const Fd& socket);
  size_t queued_bytes() const { return queued_bytes_; }

 private:
  Traffic flush_locked(const Fd& socket);

  const size_t queue_bytes_max_;
  std::mutex mutex_;
  std::deque<std::vector<uint8_t>> queue_;
  size_t sent_of_first_ = 0;
  std::atomic<size_t> queued_bytes_{0};
};

}  // namespace exo::kernels
