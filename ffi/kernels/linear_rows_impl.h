// Activations in the order in which a kernel reads them; linear.h says which. Part of
// linear_impl.h.
#pragma once
#include "linear.h"

namespace exo::kernels::EXO_ISA {

/** Largest magnitude's bits: as integers, NaN is above infinity, and that above all others. */
EXO_INLINE int32_t peak_bits(const float* x, int count) {
  I peak = {};
  for (int i = 0; i < count; i += WIDTH) {
    const I bits = I(load(x + i)) & 0x7fffffff;
    const I larger = bits > peak;
    peak = (bits & larger) | (peak & ~larger);
  }
  int32_t lanes[WIDTH], most = 0;
  store_i(lanes, peak);
  for (int lane = 0; lane < WIDTH; lane++) most = lanes[lane] > most ? lanes[lane] : most;
  return most;
}

/** q [count] = the group in steps, as int32; returns their sum. */
static int32_t quantize_group(const float* x, int count, float inverse, int32_t* q) {
  if (inverse == 0.0f) {  // Infinity times zero would be NaN.
    memset(q, 0, size_t(count) * 4);
    return 0;
  }
  I total = {};
  for (int i = 0; i < count; i += WIDTH) {
    const I rounded = round_to_int(load(x + i) * broadcast(inverse));
    store_i(q + i, rounded);
    total = total + rounded;
  }
  int32_t lanes[WIDTH], sum = 0;
  store_i(lanes, total);
  for (int lane = 0; lane < WIDTH; lane++) sum += lanes[lane];
  return sum;
}

/** The values of each word as pairs (value i, value i + half a word), the way weights unpack. */
template <int PER_WORD>
EXO_INLINE void store_pairs(const int32_t* q, int count, uint8_t* dst, size_t stride) {
  for (int first = 0; first < count; first += PER_WORD, dst += stride) {
    uint32_t pairs[PER_WORD / 2];
    for (int i = 0; i < PER_WORD / 2; i++) {
      pairs[i] = (uint32_t(q[first + i]) & 0xffffu) | uint32_t(q[first + i + PER_WORD / 2]) << 16;
    }
    memcpy(dst, pairs, sizeof pairs);
  }
}

/** One row of a block of `rows`; dst is the block. */
static void quantize_row(const MatrixSpec& spec, const float* x, int row, int rows, uint8_t* dst) {
  const int bits = packed_bits(spec.bits);
  const size_t word_bytes = size_t(32 / bits) * 2, stride = word_bytes * rows;
  const size_t values_bytes = size_t(spec.group) * 2 * rows;
  alignas(64) int32_t q[ACTIVATION_SPAN];
  SpanScale scale{};
  for (int k = 0; k < spec.inputs; k += spec.group, dst += values_bytes + size_t(rows) * 8) {
    if (k % ACTIVATION_SPAN == 0) {
      const int left = spec.inputs - k;
      const int count = left < ACTIVATION_SPAN ? left : ACTIVATION_SPAN;
      scale = span_scale(bits_to_float(uint32_t(peak_bits(x + k, count))));
    }
    const float qsum = float(quantize_group(x + k, spec.group, scale.inverse, q));
    uint8_t* to = dst + word_bytes * row;
    if (bits == 2) store_pairs<16>(q, spec.group, to, stride);
    if (bits == 4) store_pairs<8>(q, spec.group, to, stride);
    if (bits == 8) store_pairs<4>(q, spec.group, to, stride);
    memcpy(dst + values_bytes + size_t(row) * 4, &scale.step, 4);
    memcpy(dst + values_bytes + size_t(rows + row) * 4, &qsum, 4);
  }
}

static int blocks_of(int rows) { return (rows + TILE_ROWS - 1) / TILE_ROWS; }

static void quantize_rows(const MatrixSpec& spec, const float* x, size_t stride, int rows,
                          int block_begin, int block_end, uint8_t* dst) {
  const int blocks = blocks_of(rows);
  for (int block = block_begin; block < block_end; block++) {
    const int first = block_first_row(rows, blocks, block);
    const int count = block_first_row(rows, blocks, block + 1) - first;
    uint8_t* block_at = dst + quantized_rows_offset(spec, first);
    for (int r = 0; r < count; r++)
      quantize_row(spec, x + (first + r) * stride, r, count, block_at);
  }
}

static void arrange_rows(const DenseSpec& spec, const float* x, size_t stride, int rows,
                         int block_begin, int block_end, uint8_t* dst) {
  const int blocks = blocks_of(rows);
  for (int block = block_begin; block < block_end; block++) {
    const int first = block_first_row(rows, blocks, block);
    const int count = block_first_row(rows, blocks, block + 1) - first;
    auto* to = reinterpret_cast<float*>(dst + arranged_rows_bytes(spec, first));
    for (int k = 0; k < spec.inputs; k++) {
      for (int r = 0; r < count; r++) *to++ = x[(first + r) * stride + k];
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
