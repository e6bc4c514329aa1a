// Products with dense matrices. Part of linear_impl.h.
#pragma once
#include "linear.h"

namespace exo::kernels::EXO_ISA {

/**
 * Vectors of outputs that one row alone works on at once: each is a chain of dependent additions,
 * and a core has some 8 under way.
 */
constexpr int ROW_PARTS = 64 / WIDTH;

/** What a dense tile works on. */
struct DenseWork {
  const uint8_t* weights[ROW_PARTS];
  const uint8_t* x;  // [inputs][rows] of f32.
  float* acc;        // [rows][PARTS * WIDTH]
  int inputs;
};

template <Dtype DTYPE, int ROWS, int PARTS>
__attribute__((noinline)) static void dense_tile(const DenseWork& work) {
  constexpr int UNIT = DTYPE == Dtype::f32 ? 4 : 2;
  F acc[ROWS][PARTS] = {};
  const uint8_t* weights[PARTS];
  EXO_UNROLL
  for (int p = 0; p < PARTS; p++) weights[p] = work.weights[p];
  const uint8_t* x = work.x;
  for (int k = 0; k < work.inputs; k++, x += ROWS * 4) {
    const size_t offset = size_t(k) * PANEL * UNIT;
    F w[PARTS];
    EXO_UNROLL
    for (int p = 0; p < PARTS; p++) w[p] = load_typed(DTYPE, weights[p] + offset, 0);
    EXO_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const F row = broadcast(load_one(x + r * 4));
      EXO_UNROLL
      for (int p = 0; p < PARTS; p++) acc[r][p] = fma(row, w[p], acc[r][p]);
    }
  }
  EXO_UNROLL
  for (int r = 0; r < ROWS; r++) {
    EXO_UNROLL
    for (int p = 0; p < PARTS; p++) store(work.acc + (r * PARTS + p) * WIDTH, acc[r][p]);
  }
}

typedef void (*DenseTile)(const DenseWork& work);

template <Dtype DTYPE, int ROWS = TILE_ROWS>
static DenseTile dense_tile_of(int rows) {
  if constexpr (ROWS == 1) return dense_tile<DTYPE, 1, ROW_PARTS>;
  else
    return rows == ROWS ? dense_tile<DTYPE, ROWS, TILE_PARTS>
                        : dense_tile_of<DTYPE, ROWS - 1>(rows);
}

static DenseTile dense_tile_for(Dtype dtype, int rows) {
  if (dtype == Dtype::f16) return dense_tile_of<Dtype::f16>(rows);
  if (dtype == Dtype::bf16) return dense_tile_of<Dtype::bf16>(rows);
  return dense_tile_of<Dtype::f32>(rows);
}

static void dense_linear(const DenseSpec& spec, const uint8_t* packed, const ArrangedRows& x,
                         const Part& part, const Output& output) {
  alignas(64) float
      acc[(TILE_ROWS * TILE_PARTS > ROW_PARTS ? TILE_ROWS * TILE_PARTS : ROW_PARTS) * WIDTH];
  DenseWork work;
  work.acc = acc;
  work.inputs = spec.inputs;
  const int unit = int(dtype_bytes(spec.dtype));
  const int end = part.output_end < spec.outputs ? part.output_end : spec.outputs;
  const bool alone = x.rows == x.blocks;  // Blocks of one row.
  const int parts = alone ? ROW_PARTS : TILE_PARTS, width = parts * WIDTH;
  for (int column = part.output_begin; column < end; column += width) {
    place_parts(packed, panel_bytes(spec), column, spec.outputs, unit, parts, work.weights);
    const int count = end - column < width ? end - column : width;
    for (int block = part.block_begin; block < part.block_end; block++) {
      const int first = block_first_row(x.rows, x.blocks, block);
      const int rows = block_first_row(x.rows, x.blocks, block + 1) - first;
      work.x = x.data + arranged_rows_bytes(spec, first);
      dense_tile_for(spec.dtype, rows)(work);
      write_tile(acc, width, first, rows, column, count, output);
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
