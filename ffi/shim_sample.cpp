// Tokens drawn from rows of logits, several rows at a time.
#include <algorithm>
#include <limits>

#include "kernels/sample.h"
#include "mlx/ops.h"
#include "shim_native.h"

using namespace shim;

namespace {

/** A draw as it crosses the border; `sample.ts` has the same order. */
struct Draw {
  double row, seed_high, seed_low, index, temperature, top_p, top_k, min_p, repetition_penalty;
  double top_logprobs, adjustment_count;
};

/** What comes back for it: the token, how many alternatives there are, and those. */
struct Outcome {
  double id, logprob, top_count;
  double top[ek::TOP_LOGPROBS_MAX][2];
};

OwnedRows rows_of(int32_t plan, int32_t logits) {
  if (plan) return output_of(plan);
  auto array = std::make_shared<mx::array>(mx::contiguous(at(logits)));
  if (array->dtype() != mx::float32 || array->ndim() != 2) {
    throw std::invalid_argument("logits must be float32 [rows, width]");
  }
  array->eval();
  throw_lost_sum();
  return {array, array->data<float>(), array->shape(0), array->shape(1)};
}

/** A number of tokens, of which no row has more than an int holds. */
int count_of(double value) {
  return int(std::min(value, double(std::numeric_limits<int>::max())));
}

ek::SampleArgs args_of(const Draw& draw, const OwnedRows& rows) {
  if (!(draw.row >= 0 && draw.row < rows.rows)) {
    throw std::invalid_argument("row " + std::to_string(int64_t(draw.row)) + " of " +
                                std::to_string(rows.rows) + " has no logits");
  }
  if (rows.width < 1) throw std::invalid_argument("logits of no tokens");
  ek::SampleArgs args;
  args.logits = rows.data + size_t(draw.row) * size_t(rows.width);
  args.width = rows.width;
  args.temperature = draw.temperature;
  args.filters = {draw.top_p, draw.min_p, count_of(draw.top_k)};
  args.repetition_penalty = draw.repetition_penalty;
  args.seed = uint64_t(draw.seed_high) << 32 | uint64_t(draw.seed_low);
  args.index = uint64_t(draw.index);
  args.top_logprobs = int(draw.top_logprobs);
  return args;
}

void write(const ek::Sampled& sampled, Outcome& out) {
  out.id = sampled.token.id;
  out.logprob = sampled.token.logprob;
  out.top_count = sampled.top_count;
  for (int i = 0; i < sampled.top_count; i++) {
    out.top[i][0] = sampled.top[i].id;
    out.top[i][1] = sampled.top[i].logprob;
  }
}

int32_t draw_all(const OwnedRows& rows, const Draw* draws, int32_t count,
                 const ek::Adjustment* adjustments, int32_t adjustment_count, Outcome* out) {
  std::vector<ek::SampleArgs> all;
  int64_t used = 0;
  for (int32_t i = 0; i < count; i++) {
    ek::SampleArgs args = args_of(draws[i], rows);
    args.adjustments = adjustments + used;
    args.adjustment_count = int(draws[i].adjustment_count);
    used += args.adjustment_count;
    if (args.adjustment_count < 0 || used > adjustment_count) {
      throw std::invalid_argument("draws name more adjustments than there are");
    }
    all.push_back(args);
  }
  const ek::RowKernels& kernels = ek::row_kernels();
  const auto draw = [&](int i) {
    static thread_local ek::SampleBench bench;
    write(ek::sample(kernels, all[i], bench), out[i]);
  };
  if (count == 1) {
    draw(0);  // Waking the pool costs more than it could save.
  } else {
    ek::shared_pool().run(count, draw);
  }
  return count;
}

}  // namespace

int32_t shim_sample(
    int32_t plan,
    int32_t logits,
    const double* draws,
    int32_t count,
    const double* adjustments,
    int32_t adjustment_count,
    double* out) {
  return guarded([=] {
    return draw_all(rows_of(plan, logits), reinterpret_cast<const Draw*>(draws), count,
                    reinterpret_cast<const ek::Adjustment*>(adjustments), adjustment_count,
                    reinterpret_cast<Outcome*>(out));
  });
}
