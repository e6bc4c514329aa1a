// Vector primitives in portable code: 4 lanes, what every x86-64 and arm64 has without any flag.
// One of the simd_*.h headers; all offer the same names in a namespace of their own (EXO_ISA), and
// all do the same arithmetic, bit for bit. + - * / and comparisons are the compiler's own.
#pragma once
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "dtype.h"

#define EXO_ISA scalar

namespace exo::kernels::EXO_ISA {

constexpr int WIDTH = 4;
typedef float F __attribute__((vector_size(16)));
typedef int32_t I __attribute__((vector_size(16)));
typedef uint32_t U __attribute__((vector_size(16)));

EXO_INLINE F load(const float* p) {
  F v;
  memcpy(&v, p, sizeof v);
  return v;
}
EXO_INLINE void store(float* p, F v) { memcpy(p, &v, sizeof v); }
EXO_INLINE I load_i(const void* p) {
  I v;
  memcpy(&v, p, sizeof v);
  return v;
}
EXO_INLINE void store_i(void* p, I v) { memcpy(p, &v, sizeof v); }
EXO_INLINE F broadcast(float x) { return F{x, x, x, x}; }
EXO_INLINE I broadcast_i(int32_t x) { return I{x, x, x, x}; }
EXO_INLINE F zero() { return F{}; }

/** WIDTH f16, bf16 to f32. */
EXO_INLINE F load_f16(const uint16_t* p) {
  return F{f16_to_f32(p[0]), f16_to_f32(p[1]), f16_to_f32(p[2]), f16_to_f32(p[3])};
}
EXO_INLINE F load_bf16(const uint16_t* p) {
  return F{bf16_to_f32(p[0]), bf16_to_f32(p[1]), bf16_to_f32(p[2]), bf16_to_f32(p[3])};
}
/** f32 to WIDTH f16, to nearest even. */
EXO_INLINE void store_f16(uint16_t* p, F v) {
  for (int i = 0; i < WIDTH; i++) p[i] = f32_to_f16(v[i]);
}

/** WIDTH bytes, each an integer of 0 to 255. */
EXO_INLINE I load_u8(const uint8_t* p) { return I{p[0], p[1], p[2], p[3]}; }

#if defined(__SSE2__) && !defined(__FMA__)
static __attribute__((noinline, unused)) F fma_by_library(F a, F b, F c) {
  F r;
  for (int i = 0; i < WIDTH; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
}
/**
 * a * b + c with one rounding. In double the product is exact, and rounding the sum once more to
 * f32 is right unless the sum lies halfway between two f32, where the library decides; so it does
 * near the subnormals, whose halves lie elsewhere. Its calls take three times as long.
 */
EXO_INLINE F fma(F a, F b, F c) {
  const __m128 x = a, y = b, z = c;
  const __m128 x2 = _mm_movehl_ps(x, x), y2 = _mm_movehl_ps(y, y), z2 = _mm_movehl_ps(z, z);
  const __m128d low = _mm_cvtps_pd(x) * _mm_cvtps_pd(y) + _mm_cvtps_pd(z);
  const __m128d high = _mm_cvtps_pd(x2) * _mm_cvtps_pd(y2) + _mm_cvtps_pd(z2);
  const F sum = _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
  // The low words of the four doubles, of which f32 drops 29 bits.
  const I tails = I(_mm_shuffle_ps(_mm_castpd_ps(low), _mm_castpd_ps(high), 0x88));
  const I unsure = I((tails & 0x1fffffff) == 0x10000000) | I((I(sum) & 0x7f000000) == 0);
  if (__builtin_expect(_mm_movemask_ps(__m128(unsure)), 0)) return fma_by_library(a, b, c);
  return sum;
}
#else
/** a * b + c with one rounding. */
EXO_INLINE F fma(F a, F b, F c) {
  F r;
  for (int i = 0; i < WIDTH; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
}
#endif

/** Lane by lane: yes where the mask has all bits set, no where it has none. */
EXO_INLINE F select(I mask, F yes, F no) { return F((I(yes) & mask) | (I(no) & ~mask)); }
EXO_INLINE F abs(F v) { return F(I(v) & 0x7fffffff); }
/** a > b ? a : b (so b where either is NaN). */
EXO_INLINE F max(F a, F b) { return select(a > b, a, b); }
/** a < b ? a : b (so b where either is NaN). */
EXO_INLINE F min(F a, F b) { return select(a < b, a, b); }
EXO_INLINE F to_float(I v) { return __builtin_convertvector(v, F); }
/** To nearest, ties to even; the value must be well inside int32. */
EXO_INLINE I round_to_int(F v) {
  I r;
  for (int i = 0; i < WIDTH; i++) r[i] = int32_t(__builtin_rintf(v[i]));
  return r;
}
EXO_INLINE F sqrt(F v) {
  F r;
  for (int i = 0; i < WIDTH; i++) r[i] = __builtin_sqrtf(v[i]);
  return r;
}

/** Lanes hold pairs of int16: acc + a.low * b.low + a.high * b.high, in int32. */
EXO_INLINE I dot_pairs(I acc, I a, I b) {
  const I low = ((a << 16) >> 16) * ((b << 16) >> 16);
  return acc + low + (a >> 16) * (b >> 16);
}

/** Whether any lane of a mask is set. */
EXO_INLINE bool any_lane(I mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }

}  // namespace exo::kernels::EXO_ISA
