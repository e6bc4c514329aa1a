#include "sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rows.h"
#include "threefry.h"

namespace exo::kernels {
namespace {

constexpr float INFINITE = std::numeric_limits<float>::infinity();

/** A row and its largest element, which is -Inf or NaN where no token can be drawn. */
struct Row {
  const float* x;
  int width;
  int best;

  Row(const RowKernels& kernels, const float* x, int width) : x(x), width(width), best(0) {
    kernels.argmax({{x, size_t(width)}, width}, &best, 0, 1);
  }
  float largest() const { return x[best]; }
  bool is_drawable() const { return largest() > -INFINITE; }
};

/** Where there is +Inf, the row with 0 in its place and -Inf for all else: Inf - Inf is NaN. */
Row without_infinity(const RowKernels& kernels, const Row& row, std::vector<float>& memory) {
  if (row.largest() != INFINITE) return row;
  memory.resize(size_t(row.width));
  for (int i = 0; i < row.width; i++) memory[i] = row.x[i] == INFINITE ? 0.0f : -INFINITE;
  return Row(kernels, memory.data(), row.width);
}

/** Penalties, biases and bans; source of the first: Keskar et al., arXiv:1909.05858, §4.1. */
const float* adjusted(const SampleArgs& args, std::vector<float>& memory) {
  if (args.adjustment_count == 0) return args.logits;
  memory.assign(args.logits, args.logits + args.width);
  for (int i = 0; i < args.adjustment_count; i++) {
    const Adjustment& one = args.adjustments[i];
    if (!(one.id >= 0 && one.id < args.width)) continue;
    float& logit = memory[int(one.id)];
    double value = logit;
    if (one.is_repeated != 0) {
      value = value > 0 ? value / args.repetition_penalty : value * args.repetition_penalty;
    }
    logit = float(value + one.shift);
  }
  return memory.data();
}

/** The first index at which the running sum of weights exceeds `share` of it; -1 without any. */
int pick(const RowKernels& kernels, const float* x, int width, float largest, float scale,
         double share) {
  const double total = sum_of_weights(kernels, x, width, largest, scale);
  const double target = std::min(share * total, std::nextafter(total, 0));
  double sum = 0;
  int last = -1;  // The sum of a block is rounded otherwise than the running one inside of it.
  float weights[WEIGH_BLOCK];
  for (int at = 0; at < width; at += WEIGH_BLOCK) {
    const int count = std::min(WEIGH_BLOCK, width - at);
    const float block = kernels.weigh(x + at, count, largest, scale, weights);
    if (sum + double(block) > target) {
      double running = sum;
      for (int i = 0; i < count; i++) {
        if (weights[i] == 0) continue;
        last = at + i;
        running += double(weights[i]);
        if (running > target) return last;
      }
    }
    sum += double(block);
  }
  return last;
}

int draw(const RowKernels& kernels, const SampleArgs& args, const Row& given, SampleBench& bench) {
  if (!given.is_drawable()) return -1;
  if (args.temperature == 0) return given.best;
  const Row row = without_infinity(kernels, given, bench.certain);
  // A scale of Inf would make NaN of the likeliest one's 0.
  const double largest_scale = std::numeric_limits<float>::max();
  const float scale = float(std::min(1 / args.temperature, largest_scale));
  const double share = uniform_at(args.seed, args.index);
  if (!args.filters.any(row.width)) {
    return pick(kernels, row.x, row.width, row.largest(), scale, share);
  }
  filter(kernels, args.filters, row.x, row.width, row.largest(), bench.kept, bench.candidates);
  const auto& [values, ids] = bench.kept;
  const int at = pick(kernels, values.data(), int(values.size()), row.largest(), scale, share);
  return at < 0 ? -1 : ids[size_t(at)];
}

/** What the model itself says: of the drawn token, and of the likeliest ones. */
void tell_logprobs(const RowKernels& kernels, const SampleArgs& args, SampleBench& bench,
                   Sampled& sampled) {
  const Row row = without_infinity(kernels, Row(kernels, args.logits, args.width), bench.certain);
  const double total = sum_of_weights(kernels, row.x, row.width, row.largest(), 1);
  const auto logprob = [&](int id) {
    return std::min(0.0, double(row.x[id]) - double(row.largest()) - std::log(total));
  };
  sampled.token.logprob = logprob(sampled.token.id);
  const int count = std::min({args.top_logprobs, TOP_LOGPROBS_MAX, row.width});
  if (count == 0) return;
  float values[TOP_LOGPROBS_MAX];
  int32_t ids[TOP_LOGPROBS_MAX];
  top_k(kernels, row.x, row.width, count, values, ids);
  for (int i = 0; i < count; i++) {
    if (values[i] > -INFINITE) sampled.top[sampled.top_count++] = {ids[i], logprob(ids[i])};
  }
}

}  // namespace

Sampled sample(const RowKernels& kernels, const SampleArgs& args, SampleBench& bench) {
  Sampled sampled;
  const Row row(kernels, adjusted(args, bench.row), args.width);
  sampled.token.id = draw(kernels, args, row, bench);
  if (sampled.token.id >= 0 && args.top_logprobs >= 0) tell_logprobs(kernels, args, bench, sampled);
  return sampled;
}

}  // namespace exo::kernels
