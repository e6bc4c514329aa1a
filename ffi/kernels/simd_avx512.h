// Vector primitives with AVX-512 (F, BW, VL, DQ) and VNNI: 16 lanes. simd_scalar.h says what each
// must do.
#pragma once
#include <immintrin.h>

// GCC 12 takes the "undefined" operand inside its own intrinsics for a mistake of ours.
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "dtype.h"

#define EXO_ISA avx512

namespace exo::kernels::EXO_ISA {

constexpr int WIDTH = 16;
typedef float F __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));

EXO_INLINE F load(const float* p) { return F(_mm512_loadu_ps(p)); }
EXO_INLINE void store(float* p, F v) { _mm512_storeu_ps(p, __m512(v)); }
EXO_INLINE I load_i(const void* p) { return I(_mm512_loadu_si512(p)); }
EXO_INLINE void store_i(void* p, I v) { _mm512_storeu_si512(p, __m512i(v)); }
EXO_INLINE F broadcast(float x) { return F(_mm512_set1_ps(x)); }
EXO_INLINE I broadcast_i(int32_t x) { return I(_mm512_set1_epi32(x)); }
EXO_INLINE F zero() { return F(_mm512_setzero_ps()); }

EXO_INLINE F load_f16(const uint16_t* p) {
  return F(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
EXO_INLINE F load_bf16(const uint16_t* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return F(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
EXO_INLINE void store_f16(uint16_t* p, F v) {
  const __m256i half = _mm512_cvtps_ph(__m512(v), _MM_FROUND_TO_NEAREST_INT);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), half);
}

EXO_INLINE I load_u8(const uint8_t* p) {
  return I(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

EXO_INLINE F fma(F a, F b, F c) { return F(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }

EXO_INLINE F select(I mask, F yes, F no) {
  return F(_mm512_mask_blend_ps(_mm512_movepi32_mask(__m512i(mask)), __m512(no), __m512(yes)));
}
EXO_INLINE F abs(F v) { return F(I(v) & 0x7fffffff); }
EXO_INLINE F max(F a, F b) { return F(_mm512_max_ps(__m512(a), __m512(b))); }
EXO_INLINE F min(F a, F b) { return F(_mm512_min_ps(__m512(a), __m512(b))); }
EXO_INLINE F to_float(I v) { return F(_mm512_cvtepi32_ps(__m512i(v))); }
EXO_INLINE I round_to_int(F v) { return I(_mm512_cvtps_epi32(__m512(v))); }
EXO_INLINE F sqrt(F v) { return F(_mm512_sqrt_ps(__m512(v))); }

EXO_INLINE I dot_pairs(I acc, I a, I b) {
  return I(_mm512_dpwssd_epi32(__m512i(acc), __m512i(a), __m512i(b)));
}

EXO_INLINE bool any_lane(I mask) { return _mm512_movepi32_mask(__m512i(mask)) != 0; }

}  // namespace exo::kernels::EXO_ISA
