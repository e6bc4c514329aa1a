// Vector primitives with AVX2, FMA and F16C: 8 lanes. simd_scalar.h says what each must do.
#pragma once
#include <immintrin.h>

#include "dtype.h"

#define EXO_ISA avx2

namespace exo::kernels::EXO_ISA {

constexpr int WIDTH = 8;
typedef float F __attribute__((vector_size(32)));
typedef int32_t I __attribute__((vector_size(32)));
typedef uint32_t U __attribute__((vector_size(32)));

EXO_INLINE F load(const float* p) { return F(_mm256_loadu_ps(p)); }
EXO_INLINE void store(float* p, F v) { _mm256_storeu_ps(p, __m256(v)); }
EXO_INLINE I load_i(const void* p) { return I(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }
EXO_INLINE void store_i(void* p, I v) { _mm256_storeu_si256(static_cast<__m256i*>(p), __m256i(v)); }
EXO_INLINE F broadcast(float x) { return F(_mm256_set1_ps(x)); }
EXO_INLINE I broadcast_i(int32_t x) { return I(_mm256_set1_epi32(x)); }
EXO_INLINE F zero() { return F(_mm256_setzero_ps()); }

EXO_INLINE F load_f16(const uint16_t* p) {
  return F(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
EXO_INLINE F load_bf16(const uint16_t* p) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return F(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
EXO_INLINE void store_f16(uint16_t* p, F v) {
  const __m128i half = _mm256_cvtps_ph(__m256(v), _MM_FROUND_TO_NEAREST_INT);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), half);
}

EXO_INLINE I load_u8(const uint8_t* p) {
  return I(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

EXO_INLINE F fma(F a, F b, F c) { return F(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }

EXO_INLINE F select(I mask, F yes, F no) {
  return F(_mm256_blendv_ps(__m256(no), __m256(yes), __m256(mask)));
}
EXO_INLINE F abs(F v) { return F(I(v) & 0x7fffffff); }
EXO_INLINE F max(F a, F b) { return F(_mm256_max_ps(__m256(a), __m256(b))); }
EXO_INLINE F min(F a, F b) { return F(_mm256_min_ps(__m256(a), __m256(b))); }
EXO_INLINE F to_float(I v) { return F(_mm256_cvtepi32_ps(__m256i(v))); }
EXO_INLINE I round_to_int(F v) { return I(_mm256_cvtps_epi32(__m256(v))); }
EXO_INLINE F sqrt(F v) { return F(_mm256_sqrt_ps(__m256(v))); }

EXO_INLINE I dot_pairs(I acc, I a, I b) {
  acc = acc + I(_mm256_madd_epi16(__m256i(a), __m256i(b)));
  // Hidden from the compiler's view, or GCC adds up products in trees that no register file holds.
  asm("" : "+x"(acc));
  return acc;
}

EXO_INLINE bool any_lane(I mask) { return _mm256_movemask_ps(__m256(mask)) != 0; }

}  // namespace exo::kernels::EXO_ISA
