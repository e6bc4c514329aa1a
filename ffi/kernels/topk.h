// The largest k of a row.
#pragma once
#include <cstdint>

namespace exo::kernels {

/** Most elements that top_k() gives. */
constexpr int TOP_K_MAX = 1024;

struct RowKernels;

/**
 * The k largest of x[0..width-1], largest first, equal ones by lower index (0 equals -0; NaN is
 * less than all numbers). 1 <= k <= min(width, TOP_K_MAX).
 * @throws std::invalid_argument otherwise.
 */
void top_k(const RowKernels& kernels, const float* x, int width, int k, float* values,
           int32_t* indices);

/**
 * The scan under top_k(): looks at x[from..width-1] for elements greater than `threshold`, writes
 * their indices to `found` while at least 16 places are left, and returns where it stopped.
 */
using TopKScan = int (*)(const float* x, int from, int width, float threshold, int32_t* found,
                         int capacity, int* count);

}  // namespace exo::kernels
