#include "group.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

namespace exo::kernels {

namespace {

using std::chrono::milliseconds;

/** ByteView that are read at a time, before looking at anything else. */
constexpr size_t READ_BUDGET = size_t(4) << 20;
/** How long the group's own thread leaves reading to who waits before it looks again. */
constexpr int ASIDE_MS = 10;
/** How often a rank that meets the others looks whether it still should. */
constexpr int CANCEL_MS = 50;
/** What is taken of a neighbour's last words. */
constexpr size_t FAULT_BYTES_MAX = 1'000;

int64_t now_ms() {
  return std::chrono::duration_cast<milliseconds>(Clock::now().time_since_epoch()).count();
}

const GroupSpec& checked(const GroupSpec& spec) {
  spec.check();
  return spec;
}

/** Bytes of a frame that is kept: one without content costs something, too. */
size_t boxed_size(const Frame& frame) { return frame.size + sizeof(Frame); }

Clock::time_point after(int ms) { return Clock::now() + milliseconds(ms); }

/**
 * Gives a thread that waits for other ranks, as MLX's own do, a name by which it is found: it wakes
 * for each of their signs of life, which tells it from one that hangs (node/process_state.ts).
 */
void name_who_waits() {
#ifdef __linux__
  static thread_local bool is_named = false;
  if (is_named || gettid() == getpid()) return;
  is_named = true;
  pthread_setname_np(pthread_self(), "exo-waits");
#endif
}

}  // namespace

/** Counts who waits: a neighbour that is silent matters only then. */
class Group::Waiting {
 public:
  explicit Waiting(Group& group) : group_(group), began_(Clock::now()) {
    name_who_waits();
    group_.waiting_++;
  }
  ~Waiting() {
    using std::chrono::microseconds;
    group_.waiting_--;
    group_.waited_us_ += std::chrono::duration_cast<microseconds>(Clock::now() - began_).count();
  }

 private:
  Group& group_;
  Clock::time_point began_;
};

Group::Group(Fd listener, const GroupSpec& spec, const Signal& cancelled)
    : spec_(checked(spec)),
      to_next_(spec.limits.queue_bytes),
      to_previous_(spec.limits.queue_bytes),
      heard_previous_(now_ms()),
      heard_next_(now_ms()) {
  const Clock::time_point deadline = after(spec.timeout);
  neighbours_ = meet(listener, spec_, deadline, cancelled);
  heard_previous_ = heard_next_ = now_ms();
  io_ = std::thread([this] {
    try {
      run();
    } catch (const std::exception& error) {  // Without memory for a frame, say.
      break_off(spec_.rank, std::string("cannot go on: ") + error.what());
    }
  });
  try {
    meet_all(deadline, cancelled);
  } catch (...) {
    close();
    io_.join();
    throw;
  }
  heard_previous_ = heard_next_ = now_ms();
  has_met_ = true;
}

Group::~Group() {
  close();
  io_.join();
}

/** A token passes round once when each rank has its neighbours, and again to say that all have. */
void Group::meet_all(Clock::time_point deadline, const Signal& cancelled) {
  const bool is_first = spec_.rank == 0, is_last = spec_.rank == spec_.size - 1;
  if (is_first) send_frame(FrameKind::token, {});
  await_token(deadline, cancelled);
  send_frame(FrameKind::token, {});
  if (is_first) return;
  await_token(deadline, cancelled);
  if (!is_last) send_frame(FrameKind::token, {});
}

void Group::await_token(Clock::time_point deadline, const Signal& cancelled) {
  // The rank that lacks a neighbour finds out at the same time and can name it: so a little longer.
  const Clock::time_point end = deadline + milliseconds(spec_.limits.grace);
  while (!await(FrameKind::token, std::min(end, after(CANCEL_MS)))) {
    if (cancelled.is_raised()) throw GroupError("The group was closed before all ranks had met");
    if (Clock::now() < end) continue;
    throw GroupError("The ranks did not all meet within " + seconds_text(spec_.timeout) + ": " +
                     spec_.called(spec_.previous()) + " is there, one before it is not");
  }
}

void Group::check() const {
  if (!is_broken_) return;
  const std::lock_guard lock(state_);
  throw GroupError(message_);
}

void Group::send(ByteView header, ByteView body) { send_frame(FrameKind::step, {header, body}); }

void Group::send_frame(FrameKind kind, std::initializer_list<ByteView> parts) {
  check();
  const Traffic traffic = to_next_.send(neighbours_.next, kind, parts);
  bytes_sent_ += int64_t(traffic.bytes);
  frames_sent_++;
  if (traffic.is_over) lose_next(traffic.why);
  if (to_next_.queued_bytes() > 0) nudge_.raise();
  check();
}

void Group::flush() {
  const Traffic traffic = to_next_.flush(neighbours_.next);
  bytes_sent_ += int64_t(traffic.bytes);
  if (traffic.is_over) lose_next(traffic.why);
}

/** It may have said before who is gone: it need not be the next rank itself. */
void Group::lose_next(const std::string& why) {
  read_next();
  break_off(spec_.next(), why);
}

std::optional<Frame> Group::receive(int ms) { return await(FrameKind::step, after(ms)); }

std::optional<Frame> Group::await(FrameKind kind, Clock::time_point deadline) {
  const std::lock_guard lock(reading_);
  reads_++;
  std::optional<Frame> frame = take(kind);
  if (frame) return frame;
  const Waiting waiting(*this);
  while (true) {
    if (!is_broken_) read_previous(READ_BUDGET);
    frame = take(kind);
    if (frame) return frame;
    check();
    if (Clock::now() >= deadline) return std::nullopt;
    const bool is_sending = to_next_.queued_bytes() > 0;
    pollfd polled[] = {{neighbours_.previous.get(), POLLIN, 0},
                       {over_.fd(), POLLIN, 0},
                       {is_sending ? neighbours_.next.get() : -1, POLLOUT, 0}};
    poll(polled, 3, ms_until(deadline));
    if (polled[2].revents) flush();
  }
}

std::optional<Frame> Group::take(FrameKind kind) {
  const std::lock_guard lock(state_);
  std::deque<Frame>& box = boxes_[size_t(kind)];
  if (box.empty()) return std::nullopt;
  Frame frame = std::move(box.front());
  box.pop_front();
  boxed_bytes_ -= boxed_size(frame);
  return frame;
}

void Group::wait_arrival() {
  const Waiting waiting(*this);
  std::unique_lock lock(state_);
  const uint64_t before = steps_came_;
  changed_.wait(lock, [&] {
    return is_broken_ || steps_came_ != before || !boxes_[size_t(FrameKind::step)].empty();
  });
}

/** Of the rank before; `reading_` is held. */
void Group::read_previous(size_t budget) {
  Traffic traffic;
  try {
    traffic = reader_.read(neighbours_.previous, budget,
                           [this](Frame frame) { accept(std::move(frame)); });
  } catch (const std::exception& error) {  // Without memory for a frame: where it ends is lost.
    return break_off(spec_.rank, std::string("cannot go on: ") + error.what());
  }
  if (traffic.bytes > 0) heard_previous_ = now_ms();
  bytes_received_ += int64_t(traffic.bytes);
  if (traffic.is_over) break_off(spec_.previous(), traffic.why);
}

/** Signs of life and last words are all that comes backwards. */
void Group::read_next() {
  const std::lock_guard lock(reading_next_);
  const Traffic traffic = next_reader_.read(neighbours_.next, READ_BUDGET, [this](Frame frame) {
    if (frame.kind == FrameKind::fault) hear_fault(frame);
  });
  if (traffic.bytes > 0) heard_next_ = now_ms();
  bytes_received_ += int64_t(traffic.bytes);
  if (traffic.is_over) break_off(spec_.next(), traffic.why);
}

void Group::accept(Frame frame) {
  if (frame.kind == FrameKind::beat) return;
  if (frame.kind == FrameKind::fault) return hear_fault(frame);
  const bool is_step = frame.kind == FrameKind::step;
  {
    const std::lock_guard lock(state_);
    boxed_bytes_ += boxed_size(frame);
    steps_came_ += is_step;
    boxes_[size_t(frame.kind)].push_back(std::move(frame));
  }
  if (is_step) changed_.notify_all();
  if (boxed_bytes_ <= spec_.limits.inbox_bytes) return;
  break_off(spec_.previous(), "has sent " + std::to_string(boxed_bytes_) +
                                  " bytes that nobody asked for, " +
                                  std::to_string(spec_.limits.inbox_bytes) + " at most");
}

void Group::hear_fault(const Frame& frame) {
  uint32_t rank = 0;
  if (frame.size < sizeof rank) return;
  memcpy(&rank, frame.bytes.get(), sizeof rank);
  if (rank >= uint32_t(spec_.size)) return;
  const char* why = reinterpret_cast<const char*>(frame.bytes.get());
  break_off(int(rank), {why + sizeof rank, why + std::min(frame.size, FAULT_BYTES_MAX)});
}

/** The first reason stays; the neighbours are told, so that all ranks name the same one. */
void Group::break_off(int rank, const std::string& why) {
  end(spec_.called(rank) + " " + why, rank, why);
}

void Group::close() { end("The group was closed", spec_.rank, "has left the group"); }

void Group::end(const std::string& message, int rank, const std::string& why) {
  {
    const std::lock_guard lock(state_);
    if (is_broken_) return;
    message_ = message;
    is_broken_ = true;
  }
  over_.raise();
  changed_.notify_all();
  const uint32_t faulty = uint32_t(rank);
  const std::initializer_list<ByteView> words = {{&faulty, sizeof faulty}, {why.data(), why.size()}};
  to_next_.offer(neighbours_.next, FrameKind::fault, words);
  to_previous_.offer(neighbours_.previous, FrameKind::fault, words);
  // Only our side: what the neighbours have said is still there for who reads.
  shutdown(neighbours_.next.get(), SHUT_WR);
  shutdown(neighbours_.previous.get(), SHUT_WR);
}

GroupCounters Group::counters() const {
  return {double(bytes_sent_), double(bytes_received_), double(frames_sent_),
          double(waited_us_) / 1000};
}

void Group::run() {
  bool is_aside = false;  // Someone who waits reads by themselves: do not wake up for it.
  uint64_t reads = 0;
  Clock::time_point beat_at = Clock::now();
  while (!is_broken_) {
    if (Clock::now() >= beat_at) {
      to_next_.offer(neighbours_.next, FrameKind::beat, {});
      to_previous_.offer(neighbours_.previous, FrameKind::beat, {});
      beat_at = after(spec_.limits.beat);
    }
    const int timeout = std::min({ms_until(beat_at), ms_to_judge(), is_aside ? ASIDE_MS : INT_MAX});
    const bool is_sending = to_next_.queued_bytes() > 0;
    pollfd polled[] = {{over_.fd(), POLLIN, 0},
                       {nudge_.fd(), POLLIN, 0},
                       {neighbours_.next.get(), short(POLLIN | (is_sending ? POLLOUT : 0)), 0},
                       {is_aside ? -1 : neighbours_.previous.get(), POLLIN, 0}};
    poll(polled, 4, timeout);
    if (polled[1].revents) nudge_.clear();
    if (polled[2].revents & POLLOUT) flush();
    if (polled[2].revents & ~POLLOUT) read_next();
    if (is_aside) {
      const std::unique_lock lock(reading_, std::try_to_lock);
      is_aside = !lock || reads != reads_ || boxed_bytes_ >= spec_.limits.read_ahead_bytes;
      reads = reads_;
    } else if (polled[3].revents) {
      const std::unique_lock lock(reading_, std::try_to_lock);
      is_aside = !lock || boxed_bytes_ >= spec_.limits.read_ahead_bytes;
      if (!is_aside) read_previous(READ_BUDGET);
    }
    judge();
  }
}

/** A neighbour that has yet to meet its other one says nothing, and may take its time for it. */
bool Group::is_judging() const { return has_met_ && waiting_ > 0; }

/** Until a neighbour would have been silent too long, if somebody waits. */
int Group::ms_to_judge() const {
  if (!is_judging()) return INT_MAX;
  const int64_t due = std::min<int64_t>(heard_previous_, heard_next_) + spec_.limits.silence;
  return int(std::clamp<int64_t>(due - now_ms(), 0, INT_MAX));
}

/** Who has sent something that was not read yet, is not silent: this rank was. */
void Group::judge() {
  if (!is_judging()) return;
  const std::string why = "has been silent for " + seconds_text(spec_.limits.silence);
  const int64_t silent_since = now_ms() - spec_.limits.silence;
  const auto look = [&](int rank, const Fd& socket, std::atomic<int64_t>& heard) {
    if (heard > silent_since) return;
    if (is_readable(socket)) heard = now_ms();
    else break_off(rank, why);
  };
  look(spec_.previous(), neighbours_.previous, heard_previous_);
  look(spec_.next(), neighbours_.next, heard_next_);
}

}  // namespace exo::kernels
