// Products with packed matrices: y = x * transpose(w), f32 in and out. An output's float operations
// have one fixed order, the same on every instruction set and for every number of rows, so a row's
// result depends on that row only.
#pragma once
#include "dispatch.h"
#include "pack.h"

namespace exo::kernels {

/**
 * Rows of activations in the order in which a kernel reads them; it belongs to the instruction set
 * that wrote it. Blocks differ by one row at most. Quantised: a block holds, for each group of
 * inputs, words [group / values per word][rows][values per word] of int16, then steps [rows] (of
 * its span) and sums [rows]. Dense: a block holds [inputs][rows] of f32. With AMX, quantised blocks
 * are as linear_amx_rows.h says instead.
 */
struct ArrangedRows {
  const uint8_t* data;  // Aligned to ALIGN.
  int rows;
  int blocks;  // As quantized_blocks() or dense_blocks() of the kernels say.
};

/** Consecutive inputs whose activations share a step: one group of weights or more. */
constexpr int ACTIVATION_SPAN = 128;

/** The largest magnitude of a quantised activation. */
constexpr float ACTIVATION_MAX = 32767;

/** A span's step, and what its values are multiplied by to be quantised. */
struct SpanScale {
  float step;
  float inverse;  // 0: they are zeros.
};

/** Of a span with this largest magnitude, or NaN. Below 2^-100 its inverse would be too large. */
EXO_INLINE SpanScale span_scale(float peak) {
  if (peak < 0x1p-100f) return {0.0f, 0.0f};
  if (!(peak <= 3.402823466e38f)) return {__builtin_nanf(""), 0.0f};
  return {peak / ACTIVATION_MAX, ACTIVATION_MAX / peak};
}

/** Which part of a product to compute; outputs must begin at a multiple of PANEL. */
struct Part {
  int output_begin;
  int output_end;  // A multiple of PANEL, or the number of outputs. Pairs of panels go fastest.
  int block_begin;
  int block_end;
};

/** Where a product goes: y = residual + (x * transpose(w) + bias). */
struct Output {
  float* y;               // [rows, outputs]
  size_t stride;          // Floats from one row of y to the next.
  const float* bias;      // [outputs], or null.
  const float* residual;  // [rows, outputs], may be y itself, or null.
  size_t residual_stride;
};

/**
 * The kernels of one instruction set. All are single-threaded: calls for different parts may run at
 * once. None allocates, none throws.
 *
 * Quantised products. Each row is cut into spans of ACTIVATION_SPAN inputs, the last maybe shorter.
 * Per span: q = rint(x * (32767 / max|x|)) as int16, step = max|x| / 32767. Spans of zeros, or with
 * max|x| below 2^-100, count as zeros; with a NaN or an infinity the step is NaN. Over the groups
 * of a span in order from term = 0, with qsum = sum of q:
 * term = fma(scale, float(sum of w_q * q), fma(bias, float(qsum), term)); over spans in order from
 * acc = 0: acc = fma(step, term, acc).
 * Dense products: acc = fma(x[k], w[k], acc) over k in order, from 0.
 */
struct LinearKernels {
  /** Blocks that these rows make; ArrangedRows::blocks. */
  int (*quantized_blocks)(int rows);
  int (*dense_blocks)(int rows);

  /** Writes blocks block_begin..block_end-1 of x [rows, spec.inputs], whose rows are stride apart.
   */
  void (*quantize_rows)(const MatrixSpec& spec, const float* x, size_t stride, int rows,
                        int block_begin, int block_end, uint8_t* dst);

  void (*linear)(const MatrixSpec& spec, const uint8_t* packed, const ArrangedRows& x,
                 const Part& part, const Output& output);

  /** y [count, spec.inputs] = rows ids[i] of the matrix: fma(scale, q, bias). Ids must be valid. */
  void (*embed)(const MatrixSpec& spec, const uint8_t* packed, const int32_t* ids, int count,
                float* y, size_t stride);

  /** The same three for dense matrices. */
  void (*arrange_rows)(const DenseSpec& spec, const float* x, size_t stride, int rows,
                       int block_begin, int block_end, uint8_t* dst);
  void (*dense_linear)(const DenseSpec& spec, const uint8_t* packed, const ArrangedRows& x,
                       const Part& part, const Output& output);
  void (*dense_embed)(const DenseSpec& spec, const uint8_t* packed, const int32_t* ids, int count,
                      float* y, size_t stride);
};

/** The kernels of one instruction set, which must be supported; of chosen_isa() by default. */
const LinearKernels& linear_kernels(Isa isa);
const LinearKernels& linear_kernels();

/** First row of a block: blocks are as equal as can be, longer ones first. */
EXO_INLINE int block_first_row(int rows, int blocks, int block) {
  const int size = rows / blocks, longer = rows % blocks;
  return block * size + (block < longer ? block : longer);
}

/** Bytes of this many quantised rows one after the other. */
EXO_INLINE size_t quantized_rows_offset(const MatrixSpec& spec, int rows) {
  return size_t(rows) * (spec.inputs / spec.group) * (size_t(spec.group) * 2 + 8);
}

/** Rows of a block for AMX; the last block is filled up with zeros. */
constexpr int AMX_BLOCK_ROWS = 16;

/** Bytes that quantize_rows() may fill for this many rows, the same for every instruction set. */
EXO_INLINE size_t quantized_rows_bytes(const MatrixSpec& spec, int rows) {
  const int blocks = (rows + AMX_BLOCK_ROWS - 1) / AMX_BLOCK_ROWS;
  return quantized_rows_offset(spec, blocks * AMX_BLOCK_ROWS);
}

/** Bytes that arrange_rows() fills. */
EXO_INLINE size_t arranged_rows_bytes(const DenseSpec& spec, int rows) {
  return size_t(rows) * spec.inputs * 4;
}

}  // namespace exo::kernels
