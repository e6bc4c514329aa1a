// See rows_softmax.h.
#pragma once
#include "rows_math.h"
#include "rows_softmax.h"

namespace exo::kernels::EXO_ISA {

constexpr float INFINITE = __builtin_inff();

/** The largest element; -Inf when there is none but NaN. */
EXO_LARGE_INLINE float row_max(const float* x, int width) {
  Lanes largest = lanes(-INFINITE);
  for (int k = 0; k < width; k += LANES) {
    largest = max(load_some(x + k, width - k, -INFINITE), largest);
  }
  return max_lanes(largest);
}

/** Sum of exp(x - shift): 16 partial sums, one tree. `each` gets the weights of 16 elements. */
template <class Each>
EXO_LARGE_INLINE float sum_of_weights(const float* x, int width, float shift, Each each) {
  Lanes sum = lanes(0);
  for (int k = 0; k < width; k += LANES) {
    const int count = width - k;
    const Lanes weights = exp_weight(load_some(x + k, count, -INFINITE) - lanes(shift));
    each(k, count, weights);
    sum = sum + weights;
  }
  return sum_lanes(sum);
}

static void softmax(const SoftmaxArgs& args, int begin, int end) {
  for (int row = begin; row < end; row++) {
    const float* x = row_of(args.x, row);
    float* out = row_of(args.out, row);
    const auto keep = [&](int k, int count, Lanes weights) { store_some(out + k, weights, count); };
    const float sum = sum_of_weights(x, args.width, row_max(x, args.width), keep);
    const Lanes factor = lanes(1.0f / sum);
    for (int k = 0; k < args.width; k += LANES) {
      const int count = args.width - k;
      store_some(out + k, load_some(out + k, count) * factor, count);
    }
  }
}

static void log_sum_exp(const ReduceArgs& args, float* out, int begin, int end) {
  for (int row = begin; row < end; row++) {
    const float* x = row_of(args.x, row);
    const float largest = row_max(x, args.width);
    if (largest == INFINITE) {  // Inf - Inf would be NaN; a sum is NaN only where an element is.
      float sum = 0;
      for (int k = 0; k < args.width; k++) sum += x[k] == -INFINITE ? 0.0f : x[k] * 0x1p-100f;
      out[row] = sum;
      continue;
    }
    // Where all are -Inf, their difference would be NaN.
    const float shift = largest == -INFINITE ? 0.0f : largest;
    const float sum = sum_of_weights(x, args.width, shift, [](int, int, Lanes) {});
    out[row] = shift + __builtin_logf(sum);
  }
}

/** Whether any of 16 elements is `value`. */
EXO_LARGE_INLINE bool any_equal(const float* x, Lanes value) {
  const Lanes v = load_lanes(x);
  I any{};
  EXO_EACH_PART(any = any | I(v.part[i] == value.part[i]))
  return any_lane(any);
}

static void argmax(const ReduceArgs& args, int32_t* out, int begin, int end) {
  for (int row = begin; row < end; row++) {
    const float* x = row_of(args.x, row);
    const float largest = row_max(x, args.width);
    int at = 0;
    while (at + LANES <= args.width && !any_equal(x + at, lanes(largest))) at += LANES;
    while (at < args.width && x[at] != largest) at++;
    out[row] = at < args.width ? at : 0;
  }
}

}  // namespace exo::kernels::EXO_ISA
