// Keys and values of 8 or 4 bits: how they are made and read. See kv_cache.h.
#pragma once
#include "kv_cache.h"
#include "rows_lanes.h"

namespace exo::kernels::EXO_ISA {

/** A cache whose elements are codes of BITS. */
template <int BITS>
struct Codes {
  static_assert(BITS == 8 || BITS == 4);
  static constexpr int LARGEST = (1 << BITS) - 1;
};

/** Largest number of f16. */
constexpr float F16_MAX = 65504.0f;

/** The largest f16 up to x, which is within ±F16_MAX. */
EXO_INLINE uint16_t f16_at_most(float x) {
  const uint16_t half = f32_to_f16(x);
  if (f16_to_f32(half) <= x) return half;
  if (half == 0) return 0x8001;
  return uint16_t(half & 0x8000u ? half + 1 : half - 1);
}

/** The least f16 from x >= 0 on. */
EXO_INLINE uint16_t f16_at_least(float x) {
  const uint16_t half = f32_to_f16(x);
  return uint16_t(f16_to_f32(half) < x ? half + 1 : half);
}

/** One position's group. */
struct GroupScale {
  uint16_t scale;
  uint16_t bias;
};

EXO_INLINE Lanes bounded(Lanes x, float low, float high) {
  return min(max(x, lanes(low)), lanes(high));
}

/**
 * Codes of x[0..count-1]. Rounding the bias down and the scale up keeps both ends of the group in
 * reach, or the ends would be off by more than half a scale.
 */
EXO_LARGE_INLINE GroupScale quantize_group(const float* x, int count, int largest,
                                           uint8_t* codes) {
  Lanes most = lanes(x[0]), least = lanes(x[0]), odd = lanes(0);
  for (int d = 0; d < count; d += LANES) {
    const Lanes v = load_some(x + d, count - d, x[0]);
    most = max(v, most);
    least = min(v, least);
    odd = odd + v * lanes(0);  // NaN where a number is none.
  }
  if (sum_lanes(odd) != 0) {
    memset(codes, 0, size_t(count));
    return {0, 0x7e00};
  }
  const float top = max_lanes(bounded(most, -F16_MAX, F16_MAX));
  const float bottom = -max_lanes(lanes(0) - bounded(least, -F16_MAX, F16_MAX));
  const uint16_t bias = f16_at_most(bottom);
  const float zero_point = f16_to_f32(bias);
  const uint16_t scale = f16_at_least((top - zero_point) / float(largest));
  const float step = scale == 0 ? 1 : f16_to_f32(scale);  // All codes are 0 then.
  for (int d = 0; d < count; d += LANES) {
    const Lanes v = bounded(load_some(x + d, count - d, x[0]), -F16_MAX, F16_MAX);
    const Lanes code = min((v - lanes(zero_point)) / lanes(step), lanes(float(largest)));
    int32_t whole[LANES];
    EXO_EACH_PART(store_i(whole + i * WIDTH, round_to_int(code.part[i])))
    for (int i = 0; i < LANES && d + i < count; i++) codes[d + i] = uint8_t(whole[i]);
  }
  return {scale, bias};
}

/** Sums and differences of n vectors of `width` floats, over and over: a Hadamard matrix's work. */
EXO_LARGE_INLINE void mix(float* x, int n, int width) {
  for (int h = 1; h < n; h *= 2) {
    for (int at = 0; at < n; at += 2 * h) {
      float *__restrict a = x + at * width, *__restrict b = a + h * width;
      for (int i = 0; i < h * width; i++) {
        const float left = a[i], right = b[i];
        a[i] = left + right;
        b[i] = left - right;
      }
    }
  }
}

/**
 * Turns the dimensions of `width` keys, or queries, x [dim][width], group by group: a group's
 * largest power of two first, and so on. Orthogonal up to powers of two, so that scores stay.
 */
static void turn(float* x, int dim, int width, bool are_queries) {
  for (int left = dim; left > 0;) {
    int n = KV_GROUP, log = 6;
    for (; n > left; n /= 2) log--;
    mix(x, n, width);
    const float factor = 1.0f / float(1 << (are_queries ? (log + 1) / 2 : log / 2));
    for (int i = 0; i < n * width; i++) x[i] *= factor;
    x += n * width;
    left -= n;
  }
}

/** Where a KV head's parts begin in a block. */
struct HeadParts {
  KvHeadBytes bytes;
  uint8_t* keys;
  uint8_t* values;

  uint8_t* key_codes(int half) const { return keys + size_t(half) * bytes.key_codes; }
  uint16_t* key_scales(int half) const {
    uint8_t* all = keys + KV_BLOCK / LANES * bytes.key_codes;
    return reinterpret_cast<uint16_t*>(all + size_t(half) * bytes.key_scales);
  }
  uint8_t* value_codes(int at) const { return values + size_t(at) * bytes.value_codes; }
  uint16_t* value_scales(int at) const {
    uint8_t* all = values + KV_BLOCK * bytes.value_codes;
    return reinterpret_cast<uint16_t*>(all + size_t(at) * bytes.value_scales);
  }
};

EXO_INLINE HeadParts head_parts(const KvShape& shape, uint8_t* block, int head) {
  const KvHeadBytes bytes = kv_head_bytes(shape);
  uint8_t* keys = block + size_t(head) * (bytes.keys() + bytes.values());
  return {bytes, keys, keys + bytes.keys()};
}

template <int BITS>
static void append_key(const KvShape& shape, const HeadParts& head, int at, const float* k) {
  uint8_t codes[HEAD_DIM_MAX + 1];
  float turned[HEAD_DIM_MAX];
  const int dim = shape.key_dim, lane = at % LANES;
  memcpy(turned, k, size_t(dim) * sizeof(float));
  turn(turned, dim, 1, false);
  uint16_t* scales = head.key_scales(at / LANES) + lane;
  for (int d = 0; d < dim; d += KV_GROUP, scales += 2 * LANES) {
    const int count = dim - d < KV_GROUP ? dim - d : KV_GROUP;
    const GroupScale group = quantize_group(turned + d, count, Codes<BITS>::LARGEST, codes + d);
    scales[0] = group.scale;
    scales[LANES] = group.bias;
  }
  uint8_t* to = head.key_codes(at / LANES) + lane;
  if constexpr (BITS == 8) {
    for (int d = 0; d < dim; d++) to[d * LANES] = codes[d];
  } else {
    codes[dim] = 0;
    for (int d = 0; d < dim; d += 2) to[d / 2 * LANES] = uint8_t(codes[d] | codes[d + 1] << 4);
  }
}

template <int BITS>
static void append_value(const KvShape& shape, const HeadParts& head, int at, const float* v) {
  uint8_t codes[HEAD_DIM_MAX + LANES];
  const int dim = shape.value_dim;
  uint16_t* scales = head.value_scales(at);
  for (int d = 0; d < dim; d += KV_GROUP, scales += 2) {
    const int count = dim - d < KV_GROUP ? dim - d : KV_GROUP;
    const GroupScale group = quantize_group(v + d, count, Codes<BITS>::LARGEST, codes + d);
    scales[0] = group.scale;
    scales[1] = group.bias;
  }
  uint8_t* to = head.value_codes(at);
  if constexpr (BITS == 8) {
    memcpy(to, codes, size_t(dim));
  } else {
    memset(codes + dim, 0, LANES);
    for (int d = 0; d < dim; d += 2 * LANES) {
      for (int i = 0; i < LANES; i++) *to++ = uint8_t(codes[d + i] | codes[d + LANES + i] << 4);
    }
  }
}

template <int BITS>
static void append_quantized_row(const KvAppendArgs& args, int position, const float* k,
                                 const float* v) {
  const KvShape& shape = args.shape;
  uint8_t* block = args.blocks[position / KV_BLOCK];
  for (int h = 0; h < shape.kv_heads; h++, k += shape.key_dim, v += shape.value_dim) {
    const HeadParts head = head_parts(shape, block, h);
    append_key<BITS>(shape, head, position % KV_BLOCK, k);
    append_value<BITS>(shape, head, position % KV_BLOCK, v);
  }
}

/** The keys of 16 positions as f32 [key_dim][16]. */
template <int BITS>
static void expand_keys(const KvShape& shape, const HeadParts& head, int half, float* out) {
  const int dim = shape.key_dim;
  for (int i = 0; i < PARTS; i++) {
    const uint8_t* codes = head.key_codes(half) + i * WIDTH;
    const uint16_t* scales = head.key_scales(half) + i * WIDTH;
    float* to = out + i * WIDTH;
    for (int first = 0; first < dim; first += KV_GROUP, scales += 2 * LANES) {
      const F scale = load_f16(scales), bias = load_f16(scales + LANES);
      const int end = dim - first < KV_GROUP ? dim : first + KV_GROUP;
      int d = first;
      if constexpr (BITS == 8) {
        for (; d < end; d++) store(to + d * LANES, fma(to_float(load_u8(codes + d * LANES)), scale,
                                                       bias));
      } else {
        for (; d + 1 < end; d += 2) {
          const I both = load_u8(codes + d / 2 * LANES);
          store(to + d * LANES, fma(to_float(both & 15), scale, bias));
          store(to + (d + 1) * LANES, fma(to_float(both >> 4), scale, bias));
        }
        if (d < end) {
          store(to + d * LANES, fma(to_float(load_u8(codes + d / 2 * LANES) & 15), scale, bias));
        }
      }
    }
  }
}

/** The values of a block's positions begin..end-1 as f32 [end - begin][value_dim]. */
template <int BITS>
static void expand_values(const KvShape& shape, const HeadParts& head, int begin, int end,
                          float* out) {
  const int dim = shape.value_dim, groups = kv_groups(dim);
  const uint8_t* codes = head.value_codes(begin);
  const uint16_t* scales = head.value_scales(begin);
  for (int p = begin; p < end; p++, codes += head.bytes.value_codes, out += dim) {
    for (int g = 0; g < groups; g++, scales += 2) {
      const F scale = broadcast(f16_to_f32(scales[0])), bias = broadcast(f16_to_f32(scales[1]));
      const int first = g * KV_GROUP, stop = dim - first < KV_GROUP ? dim : first + KV_GROUP;
      if constexpr (BITS == 8) {
        for (int d = first; d < stop; d += WIDTH) {
          store(out + d, fma(to_float(load_u8(codes + d)), scale, bias));
        }
      } else {
        for (int d = first; d < stop; d += 2 * LANES) {
          for (int i = 0; i < LANES; i += WIDTH) {
            const I both = load_u8(codes + d / 2 + i);
            store(out + d + i, fma(to_float(both & 15), scale, bias));
            if (d + LANES < stop) store(out + d + LANES + i, fma(to_float(both >> 4), scale, bias));
          }
        }
      }
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
