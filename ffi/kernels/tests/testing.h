// What the kernels' test programs share: checks that count, noise from a seed, aligned bytes.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <vector>

namespace exo::kernels::testing {

inline int passed = 0;
inline int failed = 0;

/** Counts a check; a failed one prints what the format says, the first 20 of them. */
__attribute__((format(printf, 2, 3))) inline void check(bool holds, const char* format, ...) {
  holds ? passed++ : failed++;
  if (holds || failed > 20) return;
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
}

/** Prints the counts; what main() returns. */
inline int summary() {
  printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

/** Numbers that look random and are the same everywhere. */
class Noise {
 public:
  explicit Noise(uint32_t seed) : state_(seed * 2654435761u + 1) {}

  uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return uint32_t(state_ >> 32);
  }
  /** In [-1, 1). */
  float uniform() { return float(int32_t(bits()) >> 8) * 0x1p-23f; }
  /** In 0..below-1. */
  int index(int below) { return int(bits() % uint32_t(below)); }

 private:
  uint64_t state_;
};

/** Bytes that begin at a multiple of 64; a sanitizer sees where they end. */
class Bytes {
 public:
  explicit Bytes(size_t count)
      : at_(static_cast<uint8_t*>(::operator new(count == 0 ? 1 : count, std::align_val_t(64)))) {
    memset(at_, 0xA5, count);  // Nobody may rely on zeros.
  }
  ~Bytes() {
    if (at_ != nullptr) ::operator delete(at_, std::align_val_t(64));
  }
  Bytes(Bytes&& other) noexcept : at_(other.at_) { other.at_ = nullptr; }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  uint8_t* data() { return at_; }
  const uint8_t* data() const { return at_; }

 private:
  uint8_t* at_;
};

/** Reads a file of recorded numbers from front to back. */
class Reader {
 public:
  explicit Reader(const char* path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }
  bool done() const { return at_ >= bytes_.size(); }
  template <class T>
  std::vector<T> take(size_t count) {
    std::vector<T> values(count);
    if (at_ + count * sizeof(T) > bytes_.size()) {
      check(false, "the file is too short");
      at_ = bytes_.size();
    } else {
      memcpy(values.data(), bytes_.data() + at_, count * sizeof(T));
      at_ += count * sizeof(T);
    }
    return values;
  }

 private:
  std::vector<char> bytes_;
  size_t at_ = 0;
};

/** Largest difference, as a share of the largest number. */
inline double far_apart(const std::vector<float>& found, const std::vector<float>& wanted) {
  double most = 0, peak = 0;
  for (size_t i = 0; i < wanted.size(); i++) {
    most = std::fmax(most, std::fabs(double(found[i]) - double(wanted[i])));
    peak = std::fmax(peak, std::fabs(double(wanted[i])));
  }
  return most / peak;
}

inline bool same_bits(float a, float b) { return memcmp(&a, &b, 4) == 0; }

/** Equal bits, or NaN both: which NaN comes out is nobody's promise. */
inline bool same_value(float a, float b) { return (a != a && b != b) || same_bits(a, b); }

}  // namespace exo::kernels::testing
