#include "group_meeting.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <deque>

#include "group_frames.h"

namespace exo::kernels {

namespace {

/** Changes with what the ranks say to each other. */
constexpr char MAGIC[8] = {'E', 'X', 'O', 'R', 'I', 'N', 'G', '1'};

/** What poll says of a connection that the other side has ended, though it may be unread yet. */
#ifdef POLLRDHUP
constexpr short GONE = POLLRDHUP;
#else
constexpr short GONE = POLLHUP;
#endif

/** What is taken of a neighbour's last words. */
constexpr size_t LAST_WORDS_BYTES_MAX = 1'000;

/** What who connects says first, before the id of the group. */
struct Greeting {
  char magic[sizeof MAGIC];
  uint32_t rank, size, id_bytes;
};

enum class Answer : uint32_t { welcome, other_group, other_rank };

/** What the listening side says then. */
struct Reply {
  char magic[sizeof MAGIC];
  Answer answer;
};

/** The system's words, within a sentence. */
std::string reason_of(int error) {
  std::string text = strerror(error);
  if (!text.empty()) text[0] = char(tolower(text[0]));
  return text;
}

/** Reads so many bytes as they come. */
class Intake {
 public:
  explicit Intake(size_t wanted) { bytes_.resize(wanted); }

  /** False: the connection has ended. */
  bool read(const Fd& socket) {
    while (filled_ < bytes_.size()) {
      const ssize_t count = recv(socket.get(), bytes_.data() + filled_, bytes_.size() - filled_, 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
      if (count == 0) return false;
      filled_ += size_t(count);
    }
    return true;
  }
  bool is_whole() const { return filled_ == bytes_.size(); }
  void want(size_t more) { bytes_.resize(bytes_.size() + more); }
  template <class T>
  T head() const {
    T value;
    memcpy(&value, bytes_.data(), sizeof value);
    return value;
  }
  std::string after(size_t begin) const {
    return {bytes_.begin() + std::ptrdiff_t(begin), bytes_.end()};
  }
  size_t size() const { return bytes_.size(); }

 private:
  std::vector<char> bytes_;
  size_t filled_ = 0;
};

/** Somebody who connected and has not said yet who they are. */
struct Stranger {
  Fd socket;
  Clock::time_point until;
  Intake intake{sizeof(Greeting)};
};

class Meeting {
 public:
  Meeting(const Fd& listener, const GroupSpec& spec) : listener_(listener), spec_(spec) {}

  bool is_over() const { return found_.previous && found_.next; }
  Neighbours take() { return std::move(found_); }

  /** Waits for something to happen until then, and does what it asks for. */
  void turn(Clock::time_point deadline, const Signal& cancelled) {
    if (!found_.next && !dialled_ && Clock::now() >= redial_at_) dial();
    const bool is_idle = !found_.next && !dialled_;
    Clock::time_point until = is_idle ? std::min(deadline, redial_at_) : deadline;
    std::vector<pollfd> polled{{cancelled.fd(), POLLIN, 0}};
    if (!found_.previous) polled.push_back({listener_.get(), POLLIN, 0});
    if (dialled_) polled.push_back({dialled_.get(), short(has_greeted_ ? POLLIN : POLLOUT), 0});
    for (const Stranger& one : strangers_) {
      polled.push_back({one.socket.get(), POLLIN, 0});
      until = std::min(until, one.until);
    }
    // Those who are found may say nothing yet, but they may not go.
    const size_t others = polled.size();
    if (found_.previous) polled.push_back({found_.previous.get(), GONE, 0});
    if (found_.next) polled.push_back({found_.next.get(), GONE, 0});
    poll(polled.data(), nfds_t(polled.size()), ms_until(until));
    for (size_t i = others; i < polled.size(); i++) {
      const bool is_previous = polled[i].fd == found_.previous.get();
      if (polled[i].revents & (GONE | POLLHUP | POLLERR)) throw gone(is_previous);
    }
    if (!found_.previous) accept_all();
    hear_all();
    if (dialled_) go_on_dialling();
  }

  /** Says who is missing, now that the time is over, here and to who is there. */
  GroupError excuse() {
    const bool lacks_next = !found_.next, lacks_previous = !found_.previous;
    const std::string within = " within " + seconds_text(spec_.timeout);
    const uint32_t rank = uint32_t(lacks_next ? spec_.next() : spec_.previous());
    std::string why = "did not connect" + within;
    if (lacks_next) {
      const std::string address = address_text(spec_.next_ip, spec_.next_port);
      why = "did not answer at " + address + within + ": " + refusal_;
    }
    if (lacks_next && lacks_previous && spec_.next() != spec_.previous()) {
      why += "; " + spec_.called(spec_.previous()) + " did not connect either";
    }
    return tell(rank, why);
  }

 private:
  /** Somebody was there and is not any more: they may have said who it is that they lack. */
  GroupError gone(bool is_previous) {
    const Fd& socket = is_previous ? found_.previous : found_.next;
    uint32_t rank = uint32_t(is_previous ? spec_.previous() : spec_.next());
    std::string why = "has closed the connection before all ranks had met";
    FrameReader reader;
    reader.read(socket, LAST_WORDS_BYTES_MAX, [&](const Frame& frame) {
      uint32_t named = 0;
      if (frame.kind != FrameKind::fault || frame.size < sizeof named) return;
      memcpy(&named, frame.bytes.get(), sizeof named);
      if (named >= uint32_t(spec_.size)) return;
      rank = named;
      const char* words = reinterpret_cast<const char*>(frame.bytes.get());
      why.assign(words + sizeof named, words + std::min(frame.size, LAST_WORDS_BYTES_MAX));
    });
    return tell(rank, why);
  }

  /** Names a rank, here and to who is there. */
  GroupError tell(uint32_t rank, const std::string& why) {
    for (const Fd* one : {&found_.previous, &found_.next}) {
      if (!*one) continue;
      FrameSender sender(FRAME_BYTES_MAX);
      sender.offer(*one, FrameKind::fault, {{&rank, sizeof rank}, {why.data(), why.size()}});
    }
    return GroupError(spec_.called(int(rank)) + " " + why);
  }

  void accept_all() {
    while (!found_.previous) {
      Fd accepted = accept_next(listener_);
      if (!accepted) return;
      // The rank before may be among them, and have said so.
      if (strangers_.size() == STRANGERS_MAX) hear_all();
      if (strangers_.size() == STRANGERS_MAX) strangers_.pop_front();
      const auto until = Clock::now() + std::chrono::milliseconds(spec_.limits.greeting);
      strangers_.push_back({std::move(accepted), until});
    }
  }

  void hear_all() {
    for (size_t i = 0; i < strangers_.size();) {
      const bool stays = !found_.previous && hear(strangers_[i]);
      if (stays) i++;
      else strangers_.erase(strangers_.begin() + std::ptrdiff_t(i));
    }
  }

  /** False: it has been let in, or was sent away. */
  bool hear(Stranger& one) {
    if (!one.intake.read(one.socket) || Clock::now() >= one.until) return false;
    if (!one.intake.is_whole()) return true;
    const auto greeting = one.intake.head<Greeting>();
    if (memcmp(greeting.magic, MAGIC, sizeof MAGIC) != 0) return false;
    if (greeting.id_bytes == 0 || greeting.id_bytes > GROUP_ID_BYTES_MAX) return false;
    if (one.intake.size() == sizeof(Greeting)) {
      one.intake.want(greeting.id_bytes);
      return hear(one);
    }
    const bool is_ours = one.intake.after(sizeof(Greeting)) == spec_.id;
    const bool is_previous = int(greeting.rank) == spec_.previous() &&
                             int(greeting.size) == spec_.size;
    Reply reply{{}, is_ours ? is_previous ? Answer::welcome : Answer::other_rank
                            : Answer::other_group};
    memcpy(reply.magic, MAGIC, sizeof MAGIC);
    const bool is_told = send_now(one.socket, &reply, sizeof reply) == int64_t(sizeof reply);
    if (is_told && reply.answer == Answer::welcome) found_.previous = std::move(one.socket);
    return false;
  }

  void dial() {
    int error = 0;
    dialled_ = connect_to(spec_.next_ip, spec_.next_port, error);
    has_greeted_ = false;
    reply_ = Intake(sizeof(Reply));
    if (!dialled_) hang_up(reason_of(error));
  }

  void hang_up(const std::string& why) {
    refusal_ = why;
    dialled_ = Fd();
    redial_at_ = Clock::now() + std::chrono::milliseconds(spec_.limits.redial);
  }

  void go_on_dialling() {
    if (!has_greeted_) {
      pollfd polled{dialled_.get(), POLLOUT, 0};
      if (poll(&polled, 1, 0) <= 0) return;
      if (const int error = connect_error(dialled_)) return hang_up(reason_of(error));
      if (!greet()) return hang_up("it has closed the connection");
      refusal_ = "it took the connection and said nothing";
    }
    if (!reply_.read(dialled_)) return hang_up("it has closed the connection");
    if (!reply_.is_whole()) return;
    const auto reply = reply_.head<Reply>();
    if (memcmp(reply.magic, MAGIC, sizeof MAGIC) != 0) {
      return hang_up("what answers is no rank of this version");
    }
    if (reply.answer == Answer::welcome) {
      found_.next = std::move(dialled_);
      dialled_ = Fd();
    } else {
      hang_up(reply.answer == Answer::other_group ? "what answers is of another group"
                                                  : "what answers is another rank");
    }
  }

  bool greet() {
    Greeting greeting{{}, uint32_t(spec_.rank), uint32_t(spec_.size), uint32_t(spec_.id.size())};
    memcpy(greeting.magic, MAGIC, sizeof MAGIC);
    std::string bytes(reinterpret_cast<const char*>(&greeting), sizeof greeting);
    bytes += spec_.id;
    has_greeted_ = true;
    // A new connection takes so little at once, or nothing.
    return send_now(dialled_, bytes.data(), bytes.size()) == int64_t(bytes.size());
  }

  const Fd& listener_;
  const GroupSpec& spec_;
  Neighbours found_;
  std::deque<Stranger> strangers_;
  Fd dialled_;  // Towards the next rank, until it lets us in.
  bool has_greeted_ = false;
  Intake reply_{sizeof(Reply)};
  Clock::time_point redial_at_ = Clock::now();
  std::string refusal_ = "nothing answered";
};

}  // namespace

Neighbours meet(const Fd& listener, const GroupSpec& spec, Clock::time_point deadline,
                const Signal& cancelled) {
  Meeting meeting(listener, spec);
  while (!meeting.is_over()) {
    if (cancelled.is_raised()) throw GroupError("The group was closed before all ranks had met");
    if (Clock::now() >= deadline) throw meeting.excuse();
    meeting.turn(deadline, cancelled);
  }
  return meeting.take();
}

}  // namespace exo::kernels
