#include "topk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <string>

#include "dtype.h"
#include "rows.h"

namespace exo::kernels {
namespace {

// Orders first by value, then by lower index; no two are equal.
uint64_t key_of(float value, int32_t index) {
  const uint32_t low = ~uint32_t(index);
  if (std::isnan(value)) return low;
  const uint32_t bits = float_to_bits(value + 0.0f);  // -0 becomes 0.
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t(ordered) << 32 | low;
}

/** Fewest candidates between two choices of the best k. */
constexpr int BATCH_MIN = 64;

int32_t index_of(uint64_t key) { return int32_t(~uint32_t(key)); }

}  // namespace

void top_k(const RowKernels& kernels, const float* x, int width, int k, float* values,
           int32_t* indices) {
  if (k < 1 || k > std::min(width, TOP_K_MAX)) {
    throw std::invalid_argument("Cannot take the top " + std::to_string(k) + " of " +
                                std::to_string(width) + ": 1 to " +
                                std::to_string(std::min(width, TOP_K_MAX)) + " are possible");
  }
  // Small batches raise the threshold early; then few elements pass the scan.
  const int batch = std::max(k, BATCH_MIN);
  uint64_t keys[2 * TOP_K_MAX];
  int32_t found[TOP_K_MAX];
  for (int i = 0; i < k; i++) keys[i] = key_of(x[i], i);
  std::nth_element(keys, keys + k - 1, keys + k, std::greater<>());
  for (int at = k; at < width;) {
    // A later element must be greater than the k-th so far: an equal one loses by its index.
    const float kth = x[index_of(keys[k - 1])];
    int count = 0;
    if (std::isnan(kth)) {  // No comparison says anything: take all.
      while (at < width && count < batch) found[count++] = at++;
    } else {
      at = kernels.top_k_scan(x, at, width, kth, found, batch, &count);
    }
    for (int i = 0; i < count; i++) keys[k + i] = key_of(x[found[i]], found[i]);
    std::nth_element(keys, keys + k - 1, keys + k + count, std::greater<>());
  }
  std::sort(keys, keys + k, std::greater<>());
  for (int i = 0; i < k; i++) {
    indices[i] = index_of(keys[i]);
    values[i] = x[indices[i]];
  }
}

}  // namespace exo::kernels
