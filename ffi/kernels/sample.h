// From a row of logits to a token: penalties, log-probabilities, filters and the draw.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "sample_filter.h"

namespace exo::kernels {

/** Most alternatives that are told beside a token. */
constexpr int TOP_LOGPROBS_MAX = 20;

/** What a token's logit is changed by; as it crosses the border, in three doubles. */
struct Adjustment {
  double id = 0;
  double is_repeated = 0;  // 1: the repetition penalty holds for it.
  double shift = 0;        // Added after that; -Inf bans the token.
};

/** One draw. */
struct SampleArgs {
  const float* logits = nullptr;
  int width = 0;
  double temperature = 1;  // 0: the likeliest token.
  Filters filters;
  double repetition_penalty = 1;
  const Adjustment* adjustments = nullptr;  // Of distinct ids; those beyond the row are left out.
  int adjustment_count = 0;
  uint64_t seed = 0;
  uint64_t index = 0;     // Of this draw among those with the seed.
  int top_logprobs = -1;  // -1: no log-probabilities at all.
};

struct TokenLogprob {
  int id = -1;
  double logprob = 0;
};

/** A token, and what the model said of it before anything changed the logits. */
struct Sampled {
  TokenLogprob token;  // Its id is -1 where no token can be drawn.
  int top_count = 0;
  std::array<TokenLogprob, TOP_LOGPROBS_MAX> top;  // Descending, equal ones by id.
};

/** Memory that draws use one after the other. */
struct SampleBench {
  std::vector<float> row, certain;
  Kept kept;
  std::vector<Candidate> candidates;
};

/**
 * Draws a token. In this order: penalties and shifts; filters; division by the temperature; the
 * first token in order of ids at which the running sum of weights exceeds a random share of their
 * total. NaN is never drawn, and +Inf is certain. Log-probabilities are of the logits as given.
 * The outcome has the same bits on every instruction set.
 */
Sampled sample(const RowKernels& kernels, const SampleArgs& args, SampleBench& bench);

}  // namespace exo::kernels
