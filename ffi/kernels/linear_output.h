// What the kernels of quantised products share around their sums: scales in, results out. Include a
// simd_*.h first.
#pragma once
#include "linear.h"

#if defined(__clang__)
#define EXO_UNROLL _Pragma("unroll")
#else
#define EXO_UNROLL _Pragma("GCC unroll 32")
#endif

namespace exo::kernels::EXO_ISA {

EXO_INLINE float load_one(const uint8_t* at) {
  float value;
  memcpy(&value, at, 4);
  return value;
}

EXO_INLINE F load_typed(Dtype dtype, const uint8_t* at, int index) {
  if (dtype == Dtype::f16) return load_f16(reinterpret_cast<const uint16_t*>(at) + index);
  if (dtype == Dtype::bf16) return load_bf16(reinterpret_cast<const uint16_t*>(at) + index);
  return load(reinterpret_cast<const float*>(at) + index);
}

/** Adds what the product goes with to one vector. */
EXO_INLINE F finish(F value, const float* bias, const float* residual) {
  if (bias != nullptr) value = value + load(bias);
  if (residual != nullptr) value = load(residual) + value;
  return value;
}

/**
 * Fetches where results will go, one cache line of each row: they are seldom near, and those that
 * another thread wrote take long.
 */
EXO_INLINE void prefetch_output(const Output& output, int row, int rows, int column) {
  for (int r = row; r < row + rows; r++) {
    __builtin_prefetch(output.y + r * output.stride + column, 1);
    if (output.residual != nullptr) {
      __builtin_prefetch(output.residual + r * output.residual_stride + column);
    }
  }
}

/** Writes a tile's sums [rows][width], of which the first `count` columns exist, to the output. */
static void write_tile(const float* acc, int width, int first_row, int rows, int column, int count,
                       const Output& output) {
  for (int r = 0; r < rows; r++) {
    const float* from = acc + r * width;
    float* to = output.y + (first_row + r) * output.stride + column;
    const float* bias = output.bias == nullptr ? nullptr : output.bias + column;
    const float* residual =
        output.residual == nullptr
            ? nullptr
            : output.residual + (first_row + r) * output.residual_stride + column;
    int i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
      const float* more = residual == nullptr ? nullptr : residual + i;
      store(to + i, finish(load(from + i), bias == nullptr ? nullptr : bias + i, more));
    }
    for (; i < count; i++) {
      float value = from[i];
      if (bias != nullptr) value = value + bias[i];
      if (residual != nullptr) value = residual[i] + value;
      to[i] = value;
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
