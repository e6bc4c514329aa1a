// Reads single elements of a quantised KV block by the layout that kv_cache.h describes, in plain
// code of its own.
#pragma once
#include <cmath>
#include <cstring>

#include "../kv_cache.h"

namespace exo::kernels::testing {

/** An element: what it stands for is code * scale + bias. */
struct KvElement {
  int code;
  float scale, bias;

  float value() const { return std::fmaf(float(code), scale, bias); }
};

/** Finds elements of one KV head. */
class KvReader {
 public:
  KvReader(const KvShape& shape, const uint8_t* block, int head)
      : bits_(shape.dtype == KvDtype::q8 ? 8 : 4),
        key_dim_(size_t(shape.key_dim)),
        value_dim_(size_t(shape.value_dim)) {
    const size_t keys = 2 * (key_bytes() + groups(key_dim_) * 64);
    keys_ = block + size_t(head) * (keys + 32 * (value_bytes() + groups(value_dim_) * 4));
    values_ = keys_ + keys;
  }

  KvElement key(int position, int dim) const {
    const size_t half = size_t(position) / 16, lane = size_t(position) % 16, d = size_t(dim);
    const uint8_t* scales = keys_ + 2 * key_bytes() + (half * groups(key_dim_) + d / 64) * 64;
    const uint8_t* codes = keys_ + half * key_bytes();
    const int code = bits_ == 8 ? codes[d * 16 + lane] : nibble(codes[d / 2 * 16 + lane], d % 2);
    return {code, half_at(scales + lane * 2), half_at(scales + 32 + lane * 2)};
  }

  KvElement value(int position, int dim) const {
    const size_t at = size_t(position), d = size_t(dim);
    const uint8_t* scales = values_ + 32 * value_bytes() + (at * groups(value_dim_) + d / 64) * 4;
    const uint8_t* codes = values_ + at * value_bytes();
    const int code =
        bits_ == 8 ? codes[d] : nibble(codes[d / 32 * 16 + d % 16], d / 16 % 2);
    return {code, half_at(scales), half_at(scales + 2)};
  }

 private:
  static size_t groups(size_t dim) { return (dim + 63) / 64; }
  static int nibble(uint8_t byte, size_t index) { return index == 0 ? byte & 15 : byte >> 4; }
  static float half_at(const uint8_t* at) {
    uint16_t half;
    memcpy(&half, at, 2);
    return f16_to_f32(half);
  }
  size_t key_bytes() const { return (bits_ == 8 ? key_dim_ : (key_dim_ + 1) / 2) * 16; }
  size_t value_bytes() const {
    return bits_ == 8 ? value_dim_ : (value_dim_ + 31) / 32 * 16;
  }

  int bits_;
  size_t key_dim_, value_dim_;
  const uint8_t *keys_, *values_;
};

}  // namespace exo::kernels::testing
