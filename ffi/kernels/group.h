// The ranks of one model as one of them sees them: connections of its own, frames round a ring, and
// sums in one order.
#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "group_frames.h"
#include "group_meeting.h"
#include "group_spec.h"

namespace exo::kernels {

/** Features [begin, end) of each row. */
struct Segment {
  size_t begin, end;
  size_t width() const { return end - begin; }
};

/** The features that fall to a rank when a row is cut among `size` of them. */
inline Segment segment_of(int rank, int size, int width) {
  return {size_t(width) * size_t(rank) / size_t(size),
          size_t(width) * size_t(rank + 1) / size_t(size)};
}

/** What has passed through a group. */
struct GroupCounters {
  double bytes_sent = 0, bytes_received = 0, frames_sent = 0, waited_ms = 0;
};

/**
 * One rank's end of a group. Frames go to the next rank and come from the one before. A thread of
 * its own sends signs of life and what a slow link has not taken yet, and reads while nobody waits;
 * who waits reads by itself, so that no other thread has to wake up first.
 */
class Group {
 public:
  /**
   * Meets the other ranks: returns when all are connected. Takes as long as spec.timeout.
   * @throws GroupError that names who is missing; std::invalid_argument for what is no group.
   */
  Group(Fd listener, const GroupSpec& spec, const Signal& cancelled);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  const GroupSpec& spec() const { return spec_; }

  /**
   * Sends a step frame of two parts to the next rank, or queues it.
   * @throws GroupError when the group is broken.
   */
  void send(ByteView header, ByteView body);

  /**
   * The next step frame of the rank before; none if it takes longer than so many milliseconds.
   * @throws GroupError when the group is broken and all that had come was taken.
   */
  std::optional<Frame> receive(int ms);

  /** Returns once a step frame has come or the group is broken. */
  void wait_arrival();

  /**
   * out = the sum of all ranks' x [rows, width], with the same bits on all ranks. Features are cut
   * into as many segments as there are ranks; segment k is x of rank k, plus that of rank k + 1, and
   * so on round the ring: so a row's sum does not depend on the rows it comes with.
   * @throws GroupError when the group is broken, or a rank is late.
   */
  void sum(const float* x, float* out, int rows, int width);

  /**
   * out = rows of `width` features, of which rank k brings those of segment k: x is [rows, its
   * width]; see segment_of(). All ranks have all of them then.
   * @throws GroupError when the group is broken, or a rank is late.
   */
  void gather(const float* x, float* out, int rows, int width);

  GroupCounters counters() const;

  /** Leaves the group and ends all waits, those of other threads too. */
  void close();

  /** Sums of more bytes go in pieces; for two ranks never, which saves a journey. */
  static constexpr size_t WHOLE_SUM_BYTES_MAX = 64 * 1024;

 private:
  class Waiting;

  void meet_all(Clock::time_point deadline, const Signal& cancelled);
  void await_token(Clock::time_point deadline, const Signal& cancelled);
  std::optional<Frame> await(FrameKind kind, Clock::time_point deadline);
  std::optional<Frame> take(FrameKind kind);
  void read_previous(size_t budget);
  void read_next();
  void accept(Frame frame);
  void hear_fault(const Frame& frame);
  void send_frame(FrameKind kind, std::initializer_list<ByteView> parts);
  void flush();
  void lose_next(const std::string& why);
  void break_off(int rank, const std::string& why);
  void end(const std::string& message, int rank, const std::string& why);
  void check() const;

  void run();
  bool is_judging() const;
  void judge();
  int ms_to_judge() const;

  void send_sum(int hop, ByteView part);
  Frame await_sum(int hop, size_t bytes);
  void sum_whole(const float* x, float* out, int rows, int width);
  void sum_pieces(const float* x, float* out, int rows, int width);
  void pass_round(int first, const float* piece, int hop, float* out, int rows, int width);

  const GroupSpec spec_;
  Neighbours neighbours_;
  FrameSender to_next_, to_previous_;
  Signal over_;   // Raised for ever once the group is broken.
  Signal nudge_;  // Raised when there is something to flush.

  std::mutex reading_;  // Held by who reads what the rank before sends.
  FrameReader reader_;
  std::mutex reading_next_;
  FrameReader next_reader_;

  mutable std::mutex state_;
  std::condition_variable changed_;
  std::array<std::deque<Frame>, FRAME_KINDS> boxes_;
  uint64_t steps_came_ = 0;
  std::string message_;  // Why the group is broken.

  std::atomic<bool> is_broken_{false}, has_met_{false};
  std::atomic<size_t> boxed_bytes_{0};
  std::atomic<int> waiting_{0};
  std::atomic<uint64_t> reads_{0};  // By who waited.
  std::atomic<int64_t> heard_previous_, heard_next_;  // Milliseconds of the clock.
  std::atomic<int64_t> bytes_sent_{0}, bytes_received_{0}, frames_sent_{0}, waited_us_{0};

  std::mutex summing_;
  uint32_t sums_ = 0;

  std::thread io_;
};

}  // namespace exo::kernels
