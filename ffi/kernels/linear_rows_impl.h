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

/** Below this the largest magnitude of a group counts as 0: its inverse would be too large. */
constexpr float PEAK_MIN = 0x1p-100f;

/** q [count] = the group in steps, as int32; returns the step, and in sum their sum. */
static float quantize_group(const float* x, int count, int32_t* q, int32_t* sum) {
  const float peak = bits_to_float(uint32_t(peak_bits(x, count)));
  const bool finite = peak <= 3.402823466e38f;
  *sum = 0;
  if (!finite || peak < PEAK_MIN) {
    memset(q, 0, size_t(count) * 4);
    return finite ? 0.0f : __builtin_nanf("");
  }
  const F inverse = broadcast(32767.0f / peak);
  I total = {};
  for (int i = 0; i < count; i += WIDTH) {
    const I rounded = round_to_int(load(x + i) * inverse);
    store_i(q + i, rounded);
    total = total + rounded;
  }
  int32_t lanes[WIDTH];
  store_i(lanes, total);
  for (int lane = 0; lane < WIDTH; lane++) *sum += lanes[lane];
  return peak / 32767.0f;
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
  alignas(64) int32_t q[128];
  for (int k = 0; k < spec.inputs; k += spec.group, dst += values_bytes + size_t(rows) * 8) {
    int32_t sum;
    const float step = quantize_group(x + k, spec.group, q, &sum);
    uint8_t* to = dst + word_bytes * row;
    if (bits == 2) store_pairs<16>(q, spec.group, to, stride);
    if (bits == 4) store_pairs<8>(q, spec.group, to, stride);
    if (bits == 8) store_pairs<4>(q, spec.group, to, stride);
    const float qsum = float(sum);
    memcpy(dst + values_bytes + size_t(row) * 4, &step, 4);
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
