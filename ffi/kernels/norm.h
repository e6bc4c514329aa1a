// Normalisation of rows.
#pragma once
#include "rows_view.h"

namespace exo::kernels {

/**
 * rms_norm: out = x / sqrt(mean(x^2) + eps) * weight. Source: arXiv:1910.07467.
 * layer_norm: out = (x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias. arXiv:1607.06450.
 * A row holds `heads` pieces of `width` floats, each normalised by itself with the same weight
 * (queries and keys; 1 for a whole row). Sums are 16 partial sums by fma, then one tree.
 * `out` may be `x`. Where a piece holds NaN or Inf, so does its result.
 */
struct NormArgs {
  ConstRows x;
  Rows out;
  int width = 0;
  int heads = 1;
  float eps = 0;
  const float* weight = nullptr;  // [width]; null: ones.
  const float* bias = nullptr;    // [width], layer_norm only; null: zeros.
};

/** add_rms_norm: sum = x + residual, kept; norm.out = rms_norm(sum). norm.x is not used. */
struct AddNormArgs {
  ConstRows x;
  ConstRows residual;
  Rows sum;  // May be x or residual, not norm.out.
  NormArgs norm;
};

}  // namespace exo::kernels
