// Rows of f32 in memory that someone else owns.
#pragma once
#include "dtype.h"

namespace exo::kernels {

/** Row i begins at data + i * stride; the stride counts floats. */
struct Rows {
  float* data = nullptr;
  size_t stride = 0;
};

/** The same, read only. */
struct ConstRows {
  const float* data = nullptr;
  size_t stride = 0;
};

EXO_INLINE float* row_of(const Rows& rows, int i) { return rows.data + size_t(i) * rows.stride; }
EXO_INLINE const float* row_of(const ConstRows& rows, int i) {
  return rows.data + size_t(i) * rows.stride;
}

}  // namespace exo::kernels
