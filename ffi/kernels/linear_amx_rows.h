// Activations as tiles want them: int16 cut into high and low bytes. Part of linear_amx.cpp.
#pragma once
#include "amx_tiles.h"
#include "linear.h"

namespace exo::kernels::amx {

/** Rows of a block: a tile of fewer rows takes as long to store. */
constexpr int ROWS = AMX_BLOCK_ROWS;

/** Inputs that one tile holds; a group has one tile or two. */
constexpr int tile_inputs(int group) {
  return group < TILE_ROW_BYTES ? group : TILE_ROW_BYTES;
}

/**
 * Bytes of one group of a block: for each tile of inputs the high bytes [ROWS][tile_inputs],
 * signed, and the low bytes [ROWS][tile_inputs], unsigned; then steps [ROWS] and sums [ROWS], f32.
 */
constexpr size_t block_group_bytes(int group) {
  return size_t(ROWS) * (size_t(group) * 2 + 8);
}

/** Inputs that are quantised at a time. */
constexpr int UNIT = 32;

/**
 * Order of the bytes of a unit: first the high ones, then the low ones, each in the order in which
 * the weights' words unpack: word by word, all values whose place in their byte is the same. The
 * source is what VPACKSSDW makes of inputs 0..15 and 16..31: 4 of each, in turns.
 */
struct ByteOrder {
  alignas(64) uint8_t at[2 * UNIT];

  explicit ByteOrder(int bits) {
    const int per_byte = 8 / bits, per_word = 4 * per_byte;
    for (int to = 0; to < UNIT; to++) {
      const int row = to / 4, word = row / per_byte;
      const int input = word * per_word + to % 4 * per_byte + row % per_byte;
      const int lane = input % 16 / 4, element = input / 16 * 4 + input % 4;
      at[to] = uint8_t(lane * 16 + element * 2 + 1);
      at[UNIT + to] = uint8_t(lane * 16 + element * 2);
    }
  }
};

/** Bits of the largest magnitude: as integers, NaN is above infinity, and that above all others. */
EXO_INLINE int32_t peak_bits(const float* x, int count) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i peak = _mm512_setzero_si512();
  for (int i = 0; i < count; i += 16) {
    peak = _mm512_max_epi32(peak, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
  }
  return _mm512_reduce_max_epi32(peak);
}

/** 16 values in units of their inverse; zeros where `counts` is 0. */
EXO_INLINE __m512i quantize(const float* x, __m512 inverse, __mmask16 counts) {
  return _mm512_maskz_cvtps_epi32(counts, _mm512_mul_ps(_mm512_loadu_ps(x), inverse));
}

/** One group of one row, in units of its inverse; `to` is the row in the high bytes. */
EXO_INLINE int32_t store_group(const float* x, int group, float inverse, __m512i order,
                               int depth, uint8_t* to) {
  // Where the inverse is 0, infinity becomes NaN, and that the smallest integer: away with it.
  const __m512 factor = _mm512_set1_ps(inverse);
  const __mmask16 counts = inverse == 0 ? 0 : 0xffff;
  __m512i sum = _mm512_setzero_si512();
  if (group == 16) {
    const __m512i q = quantize(x, factor, counts);
    const __m512i packed = _mm512_packs_epi32(q, sum);
    const __m512i bytes = _mm512_permutexvar_epi8(order, packed);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_castsi512_si128(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + ROWS * depth),
                     _mm512_extracti32x4_epi32(bytes, 2));
    return _mm512_reduce_add_epi32(q);
  }
  for (int i = 0; i < group; i += UNIT) {
    const __m512i q0 = quantize(x + i, factor, counts);
    const __m512i q1 = quantize(x + i + 16, factor, counts);
    sum = _mm512_add_epi32(sum, _mm512_add_epi32(q0, q1));
    const __m512i packed = _mm512_packs_epi32(q0, q1);
    const __m512i bytes = _mm512_permutexvar_epi8(order, packed);
    uint8_t* at = to + i / depth * 2 * ROWS * depth + i % depth;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), _mm512_castsi512_si256(bytes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at + ROWS * depth),
                        _mm512_extracti64x4_epi64(bytes, 1));
  }
  return _mm512_reduce_add_epi32(sum);
}

/** One row of a block; `at` is the block. */
EXO_INLINE void quantize_row(const MatrixSpec& spec, const float* x, int row, __m512i order,
                             uint8_t* at) {
  const int depth = tile_inputs(spec.group);
  const size_t steps = size_t(spec.group) * 2 * ROWS + size_t(row) * 4;
  for (int first = 0; first < spec.inputs; first += ACTIVATION_SPAN) {
    const int end = first + ACTIVATION_SPAN < spec.inputs ? first + ACTIVATION_SPAN : spec.inputs;
    const int32_t peak = peak_bits(x + first, end - first);
    const SpanScale scale = span_scale(bits_to_float(uint32_t(peak)));
    for (int k = first; k < end; k += spec.group, at += block_group_bytes(spec.group)) {
      uint8_t* to = at + row * depth;
      const float qsum = float(store_group(x + k, spec.group, scale.inverse, order, depth, to));
      memcpy(at + steps, &scale.step, 4);
      memcpy(at + steps + ROWS * 4, &qsum, 4);
    }
  }
}

/** One block of `rows` rows; those missing are zeros. */
static void quantize_block(const MatrixSpec& spec, const float* x, size_t stride, int rows,
                           uint8_t* dst) {
  const ByteOrder byte_order(packed_bits(spec.bits));
  const __m512i order = _mm512_load_si512(byte_order.at);
  if (rows < ROWS) memset(dst, 0, block_group_bytes(spec.group) * (spec.inputs / spec.group));
  for (int r = 0; r < rows; r++) quantize_row(spec, x + r * stride, r, order, dst);
}

}  // namespace exo::kernels::amx
