// Element types of weights and caches, and their exact conversions to and from f32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

// Everything in a header that several instruction sets compile is inlined by force: otherwise the
// linker may keep one copy, made with instructions that the machine lacks.
#define EXO_INLINE static inline __attribute__((always_inline, unused))

namespace exo::kernels {

/** Element type of a weight, a scale or a cache. */
enum class Dtype : uint8_t { f32, f16, bf16 };

/** Bytes of one element. */
EXO_INLINE size_t dtype_bytes(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

EXO_INLINE float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

EXO_INLINE uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

/** bf16 to f32, exact. */
EXO_INLINE float bf16_to_f32(uint16_t half) { return bits_to_float(uint32_t(half) << 16); }

/** f16 to f32, exact; NaN stays NaN. Source: IEEE 754-2019, binary16. */
EXO_INLINE float f16_to_f32(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16;
  const uint32_t rest = uint32_t(half & 0x7fffu) << 13;
  if (rest >= 0x0f800000u) return bits_to_float(sign | 0x70000000u | rest);  // Inf, NaN
  // A product by a power of two moves the exponent, and normalises subnormals on the way.
  return bits_to_float(sign | float_to_bits(bits_to_float(rest) * 0x1p112f));
}

/** f32 to f16, to nearest, ties to even; too large becomes Inf; NaN stays NaN. */
EXO_INLINE uint16_t f32_to_f16(float value) {
  const uint32_t bits = float_to_bits(value);
  const uint16_t sign = uint16_t((bits >> 16) & 0x8000u);
  const uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return uint16_t(sign | 0x7e00u | ((rest >> 13) & 0x3ffu));
  if (rest >= 0x477ff000u) return uint16_t(sign | 0x7c00u);
  if (rest < 0x38800000u) {  // Subnormal: adding 0.5 leaves the rounded value in the low bits.
    return uint16_t(sign | (float_to_bits(bits_to_float(rest) + 0.5f) - 0x3f000000u));
  }
  return uint16_t(sign | ((rest - 0x38000000u + 0xfffu + ((rest >> 13) & 1u)) >> 13));
}

/** f32 to bf16, to nearest, ties to even; NaN stays NaN. */
EXO_INLINE uint16_t f32_to_bf16(float value) {
  const uint32_t bits = float_to_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t((bits >> 16) | 0x40u);
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace exo::kernels
