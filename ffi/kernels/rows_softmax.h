// Softmax and reductions of rows.
#pragma once
#include "rows_view.h"

namespace exo::kernels {

/**
 * out = exp(x - max) / sum. Weights below exp(-87) of the largest are 0. `out` may be `x`.
 * NaN or +Inf in a row, or nothing but -Inf, gives NaN.
 */
struct SoftmaxArgs {
  ConstRows x;
  Rows out;
  int width = 0;
};

/**
 * log_sum_exp: out[row] = log(sum(exp(x))); all -Inf gives -Inf, +Inf gives +Inf, NaN gives NaN.
 * argmax: out[row] = the lowest index of the largest element; NaN is less than all numbers, and a
 * row of nothing but NaN gives 0. The width must be at least 1.
 */
struct ReduceArgs {
  ConstRows x;
  int width = 0;
};

}  // namespace exo::kernels
