// Top-p, min-p and top-k: which tokens of a row may be drawn.
#pragma once
#include <cstdint>
#include <vector>

namespace exo::kernels {

struct RowKernels;

/**
 * All on probabilities at temperature 1; each keeps the likeliest tokens up to some point, equal
 * ones by lower id first, and so does their combination.
 */
struct Filters {
  double top_p = 1;  // A token is kept while all likelier ones together have less than this.
  double min_p = 0;  // Least share of the likeliest one's probability.
  int top_k = 0;     // Most tokens; 0: all.

  bool any(int width) const { return top_p < 1 || min_p > 0 || (top_k > 0 && top_k < width); }
};

/** What is kept of a row, by ascending id. */
struct Kept {
  std::vector<float> values;
  std::vector<int32_t> ids;
};

/** A token that may be kept, and its probability as a share of the likeliest one's. */
struct Candidate {
  uint64_t key;  // Orders by value, then by lower id; no two are equal.
  float weight;
};

/** Writes to `kept` what the filters keep of x[0..width-1], whose largest element is finite. */
void filter(const RowKernels& kernels, const Filters& filters, const float* x, int width,
            float largest, Kept& kept, std::vector<Candidate>& candidates);

/** Elements that weigh() takes at a time, so that f32 sums stay short. */
constexpr int WEIGH_BLOCK = 256;

/** Sum of exp((x - largest) * scale), NaN left out. */
double sum_of_weights(const RowKernels& kernels, const float* x, int width, float largest,
                      float scale);

/**
 * Weights exp((x - largest) * scale) of up to WEIGH_BLOCK elements; NaN has none. Writes them to
 * `weights` unless that is null, and returns their sum.
 */
using Weigh = float (*)(const float* x, int count, float largest, float scale, float* weights);

/** Limits that rungs() compares with in one go. */
constexpr int RUNGS = 8;

/** Elements that rungs() takes at a time, likewise. */
constexpr int RUNGS_BLOCK = 1024;

/**
 * sums[i] += what lies above limits[i]: the weights exp(x - largest), or the number of elements.
 */
using Rungs = void (*)(const float* x, int count, float largest, const float* limits,
                       bool is_weighted, double* sums);

}  // namespace exo::kernels
