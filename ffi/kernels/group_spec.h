// Who belongs to a group of ranks, and how long it waits for what.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace exo::kernels {

/** The group is broken; the message names the rank that is gone. */
class GroupError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/** ByteView of a frame's content. */
constexpr size_t FRAME_BYTES_MAX = size_t(256) << 20;
/** Who may be greeting at a time; the oldest gives way. */
constexpr size_t STRANGERS_MAX = 16;
constexpr int GROUP_SIZE_MAX = 64;
constexpr size_t GROUP_ID_BYTES_MAX = 4096;

/** Times in milliseconds, and bytes. */
struct GroupLimits {
  int beat = 1'000;       // Between two signs of life.
  int silence = 5'000;    // Of a neighbour while this rank waits; then it is gone.
  int greeting = 5'000;   // For who connects to say who they are.
  int redial = 100;       // Between two attempts to connect.
  int sum = 60'000;       // For the next part of a sum.
  int grace = 1'000;      // After the time to meet is over: for others to say who is missing.
  size_t inbox_bytes = size_t(512) << 20;       // That came and nobody has asked for.
  size_t read_ahead_bytes = size_t(256) << 20;  // Of those, before anyone waits for anything.
  size_t queue_bytes = size_t(512) << 20;       // That the next rank has not taken yet.
};

/** What a rank knows of its group. */
struct GroupSpec {
  std::string id;  // The same on all ranks; no other group of this time has it.
  int rank = 0;
  int size = 0;
  std::vector<std::string> names;  // Of the machines, by rank.
  std::string next_ip;             // Where the next rank listens.
  int next_port = 0;
  int timeout = 60'000;            // Milliseconds for all ranks to meet.
  GroupLimits limits{};

  int next() const { return (rank + 1) % size; }
  int previous() const { return (rank + size - 1) % size; }
  /** Rank 1 on "studio" */
  std::string called(int one) const {
    return "Rank " + std::to_string(one) + " on \"" + names.at(one) + "\"";
  }
  /** @throws std::invalid_argument when it describes no group. */
  void check() const {
    const bool is_group = size >= 2 && size <= GROUP_SIZE_MAX && rank >= 0 && rank < size &&
                          names.size() == size_t(size);
    if (!is_group) {
      throw std::invalid_argument("a group needs 2 to " + std::to_string(GROUP_SIZE_MAX) +
                                  " ranks, each with a name");
    }
    if (id.empty() || id.size() > GROUP_ID_BYTES_MAX) {
      throw std::invalid_argument("the id of a group needs 1 to " +
                                  std::to_string(GROUP_ID_BYTES_MAX) + " bytes");
    }
  }
};

/** 60 s, 0.5 s */
inline std::string seconds_text(int ms) {
  const std::string whole = std::to_string(ms / 1000);
  return ms % 1000 == 0 ? whole + " s" : whole + "." + std::to_string(ms % 1000 / 100) + " s";
}

}  // namespace exo::kernels
