#include "sample_filter.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "rows.h"

namespace exo::kernels {
namespace {

constexpr float INFINITE = std::numeric_limits<float>::infinity();

/** How far below the largest logit the first look is taken for where to cut. */
constexpr float STEPS[RUNGS] = {1, 2, 3.5f, 6, 9, 13, 20, INFINITE};

/** Looks after the first one; each leaves an eighth of the range. */
constexpr int CLOSER_LOOKS = 3;

/** By how much the f32 sums of a look might be wrong. */
constexpr double LOOK_ERROR = 1e-5;

/** So few tokens are not worth a look. */
constexpr int UNLOOKED_MAX = 256;

/** Candidates that are sorted when so few are left. */
constexpr int SORTED_MAX = 32;

// As top_k() orders.
uint64_t key_of(float value, int32_t id) {
  const uint32_t bits = float_to_bits(value + 0.0f);  // -0 becomes 0.
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return uint64_t(ordered) << 32 | ~uint32_t(id);
}

bool is_likelier(const Candidate& a, const Candidate& b) { return a.key > b.key; }

/** What lies above each of some limits, which descend: weights, or the number of elements. */
struct Look {
  float limits[RUNGS];
  double sums[RUNGS]{};

  void add_up(const RowKernels& kernels, const float* x, int width, float largest,
              bool is_weighted) {
    for (int at = 0; at < width; at += RUNGS_BLOCK) {
      const int count = std::min(RUNGS_BLOCK, width - at);
      kernels.rungs(x + at, count, largest, limits, is_weighted, sums);
    }
  }
  double total() const { return sums[RUNGS - 1]; }
};

/** Limits at fixed distances from the largest; the last one has all numbers above it. */
Look first_look(const RowKernels& kernels, const float* x, int width, float largest,
                bool is_weighted) {
  Look look;
  for (int i = 0; i < RUNGS; i++) look.limits[i] = largest - STEPS[i];
  look.add_up(kernels, x, width, largest, is_weighted);
  return look;
}

/** Where so much is reached that nothing below is kept. */
struct Range {
  float high = INFINITE;  // All above are kept.
  float low = -INFINITE;  // None from here down is.
  double before = 0;      // What is above `high`.

  void narrow(const Look& look, double wanted) {
    for (int i = 0; i < RUNGS; i++) {
      if (look.sums[i] >= wanted * (1 + LOOK_ERROR)) {
        low = std::max(low, look.limits[i]);
        return;
      }
      if (look.sums[i] > wanted * (1 - LOOK_ERROR) || look.limits[i] >= high) continue;
      high = look.limits[i];
      before = look.sums[i];
    }
  }
};

Range range_of(const RowKernels& kernels, const std::vector<float>& values, float largest,
               bool is_weighted, double wanted) {
  const int count = int(values.size());
  Range range;
  if (count <= UNLOOKED_MAX) return range;
  range.narrow(first_look(kernels, values.data(), count, largest, is_weighted), wanted);
  for (int i = 0; i < CLOSER_LOOKS && range.low > -INFINITE; i++) {
    Look look;
    const float top = std::min(range.high, largest), step = (top - range.low) / RUNGS;
    for (int rung = 0; rung < RUNGS; rung++) look.limits[rung] = top - step * float(rung + 1);
    look.add_up(kernels, values.data(), count, largest, is_weighted);
    range.narrow(look, wanted);
  }
  return range;
}

/** Elements above `limit`, by ascending id. */
void gather(const RowKernels& kernels, const float* x, int width, float limit, Kept& kept) {
  constexpr int SLACK = 16;  // As TopKScan wants it.
  kept.ids.resize(size_t(width) + SLACK);
  int count = 0;
  kernels.top_k_scan(x, 0, width, limit, kept.ids.data(), width + SLACK, &count);
  kept.ids.resize(size_t(count));
  kept.values.resize(size_t(count));
  for (size_t i = 0; i < kept.ids.size(); i++) kept.values[i] = x[kept.ids[i]];
}

/**
 * Puts the candidates first that are kept, and returns how many: while those before it weigh less
 * than `wanted`, the next one is kept. Halves what is undecided each time.
 */
int cut(std::vector<Candidate>& all, double before, double wanted) {
  int low = 0, high = int(all.size());  // All before low are kept, none from high on.
  while (high - low > SORTED_MAX) {
    const int middle = low + (high - low) / 2;
    std::nth_element(all.begin() + low, all.begin() + middle, all.begin() + high, is_likelier);
    double until = before;
    for (int i = low; i < middle; i++) until += double(all[i].weight);
    if (until < wanted) {
      before = until + double(all[middle].weight);
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  std::sort(all.begin() + low, all.begin() + high, is_likelier);
  for (; low < high && before < wanted; low++) before += double(all[low].weight);
  return low;
}

/** Keeps the elements for which `is_kept(value, id)`. */
template <class IsKept>
void retain(Kept& kept, IsKept is_kept) {
  size_t to = 0;
  for (size_t i = 0; i < kept.ids.size(); i++) {
    const float value = kept.values[i];
    const int32_t id = kept.ids[i];
    kept.values[to] = value;
    kept.ids[to] = id;
    to += is_kept(value, id);
  }
  kept.values.resize(to);
  kept.ids.resize(to);
}

/** Keeps the likeliest while those before them weigh less than `wanted`, or are fewer. */
void keep_likeliest(const RowKernels& kernels, float largest, bool is_weighted, double wanted,
                    Kept& kept, std::vector<Candidate>& candidates) {
  const int count = int(kept.ids.size());
  const Range range = range_of(kernels, kept.values, largest, is_weighted, wanted);
  candidates.clear();
  float weights[WEIGH_BLOCK];
  std::fill(weights, weights + WEIGH_BLOCK, 1.0f);
  for (int at = 0; at < count; at += WEIGH_BLOCK) {
    const int some = std::min(WEIGH_BLOCK, count - at);
    if (is_weighted) kernels.weigh(kept.values.data() + at, some, largest, 1, weights);
    for (int i = 0; i < some; i++) {
      const float value = kept.values[at + i];
      if (!(value > range.low && value <= range.high)) continue;
      candidates.push_back({key_of(value, kept.ids[at + i]), weights[i]});
    }
  }
  const int likeliest = cut(candidates, range.before, wanted);
  uint64_t least = ~uint64_t(0);
  for (int i = 0; i < likeliest; i++) least = std::min(least, candidates[i].key);
  retain(kept, [&](float value, int32_t id) {
    return (value > range.high) | (key_of(value, id) >= least);
  });
}

/** The `k` largest that are numbers, by ascending id. */
void gather_top(const RowKernels& kernels, const float* x, int width, int k, Kept& kept) {
  kept.values.resize(size_t(k));
  kept.ids.resize(size_t(k));
  top_k(kernels, x, width, k, kept.values.data(), kept.ids.data());
  while (!(kept.values.back() > -INFINITE)) {
    kept.values.pop_back();
    kept.ids.pop_back();
  }
  std::sort(kept.ids.begin(), kept.ids.end());
  for (size_t i = 0; i < kept.ids.size(); i++) kept.values[i] = x[kept.ids[i]];
}

/** The greatest number below. */
float below(double limit) { return std::nextafter(float(limit), -INFINITE); }

}  // namespace

double sum_of_weights(const RowKernels& kernels, const float* x, int width, float largest,
                      float scale) {
  double sum = 0;
  for (int at = 0; at < width; at += WEIGH_BLOCK) {
    const int count = std::min(WEIGH_BLOCK, width - at);
    sum += double(kernels.weigh(x + at, count, largest, scale, nullptr));
  }
  return sum;
}

void filter(const RowKernels& kernels, const Filters& filters, const float* x, int width,
            float largest, Kept& kept, std::vector<Candidate>& candidates) {
  const bool has_top_p = filters.top_p < 1;
  const bool has_top_k = filters.top_k > 0 && filters.top_k < width;
  const double top_k = filters.top_k;
  float limit = filters.min_p > 0 ? below(double(largest) + std::log(filters.min_p)) : -INFINITE;
  double mass = 0;
  if (has_top_k && filters.top_k <= TOP_K_MAX) {
    if (has_top_p) mass = filters.top_p * sum_of_weights(kernels, x, width, largest, 1);
    gather_top(kernels, x, width, filters.top_k, kept);
    retain(kept, [&](float value, int32_t) { return value > limit; });
  } else {
    Range reached;
    if (has_top_p) {
      const Look look = first_look(kernels, x, width, largest, true);
      mass = filters.top_p * look.total();
      reached.narrow(look, mass);
    }
    if (has_top_k) reached.narrow(first_look(kernels, x, width, largest, false), top_k);
    limit = std::max(limit, reached.low);
    gather(kernels, x, width, limit, kept);
    if (has_top_k && double(kept.ids.size()) > top_k) {
      keep_likeliest(kernels, largest, false, top_k, kept, candidates);
    }
  }
  if (has_top_p) keep_likeliest(kernels, largest, true, mass, kept, candidates);
}

}  // namespace exo::kernels
