// See sample_filter.h.
#pragma once
#include <utility>

#include "rows_math.h"
#include "sample_filter.h"

namespace exo::kernels::EXO_ISA {

/** exp_weight() of any number; NaN weighs nothing. */
EXO_LARGE_INLINE Lanes weight_of(Lanes x) {
  return select(x > lanes(-87.0f), exp_weight(x), lanes(0));
}

static float weigh(const float* x, int count, float largest, float scale, float* weights) {
  Lanes sum = lanes(0);
  for (int k = 0; k < count; k += LANES) {
    const Lanes below = load_some(x + k, count - k, -__builtin_inff()) - lanes(largest);
    const Lanes weight = weight_of(below * lanes(scale));
    if (weights != nullptr) store_some(weights + k, weight, count - k);
    sum = sum + weight;
  }
  return sum_lanes(sum);
}

/** The sums are arguments, each with an index known at compile time, to stay in registers. */
template <bool WEIGHTED, size_t... AT>
static void rungs_of(const float* x, int count, float largest, const float* limits, double* sums,
                     std::index_sequence<AT...>) {
  Lanes sum[RUNGS] = {(static_cast<void>(AT), lanes(0))...};
  for (int k = 0; k < count; k += LANES) {
    const Lanes v = load_some(x + k, count - k, -__builtin_inff());
    const Lanes weight = WEIGHTED ? weight_of(v - lanes(largest)) : lanes(1);
    ((sum[AT] = sum[AT] + select(v > lanes(limits[AT]), weight, lanes(0))), ...);
  }
  ((sums[AT] += double(sum_lanes(sum[AT]))), ...);
}

static void rungs(const float* x, int count, float largest, const float* limits, bool is_weighted,
                  double* sums) {
  constexpr auto ALL = std::make_index_sequence<RUNGS>();
  if (is_weighted) return rungs_of<true>(x, count, largest, limits, sums, ALL);
  rungs_of<false>(x, count, largest, limits, sums, ALL);
}

}  // namespace exo::kernels::EXO_ISA
