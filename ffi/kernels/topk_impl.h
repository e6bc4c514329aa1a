// See topk.h.
#pragma once
#include "rows_lanes.h"
#include "topk.h"

namespace exo::kernels::EXO_ISA {

static int top_k_scan(const float* x, int from, int width, float threshold, int32_t* found,
                      int capacity, int* count) {
  const Lanes limit = lanes(threshold);
  int at = from, have = 0;
  for (; at < width && have + LANES <= capacity; at += LANES) {
    const int left = width - at < LANES ? width - at : LANES;
    if (left == LANES) {
      const Mask greater = load_lanes(x + at) > limit;
      I any{};
      EXO_EACH_PART(any = any | greater.part[i])
      if (!any_lane(any)) continue;
    }
    for (int i = 0; i < left; i++) {  // Without branches, which nobody could foretell.
      found[have] = at + i;
      have += x[at + i] > threshold;
    }
  }
  *count = have;
  return at < width ? at : width;
}

}  // namespace exo::kernels::EXO_ISA
