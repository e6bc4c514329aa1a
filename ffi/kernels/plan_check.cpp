#include <algorithm>
#include <stdexcept>
#include <string>

#include "plan_ops.h"

namespace exo::kernels {

void refuse(const std::string& what) { throw std::invalid_argument(what); }

void check_sequences(const Step& step) {
  int next = 0;
  for (const StepSequence& sequence : step.sequences) {
    if (sequence.first_row != next || sequence.rows < 0 || sequence.position < 0) {
      refuse("the sequences of a step must cover its rows in order");
    }
    next += sequence.rows;
    const int64_t needed = int64_t(sequence.position) + sequence.rows;
    if (int64_t(sequence.block_count) * KV_BLOCK < needed) {
      refuse("a sequence of " + std::to_string(needed) + " positions has " +
             std::to_string(sequence.block_count) + " KV blocks");
    }
    for (int i = 0; i < sequence.block_count; i++) {
      const int32_t block = sequence.blocks[i];
      if (block == GONE || (step.kv && step.kv->has(block))) continue;
      refuse("a step names a KV block that is not in use");
    }
  }
  if (next != step.rows()) refuse("the sequences of a step must cover its rows");
}

void check_layer(const Step& step, const Op& attention) {
  const bool has_layer = step.kv && attention.layer >= 0 &&
                         size_t(attention.layer) < step.kv->layers().size();
  if (!has_layer) refuse("the KV pool lacks layer " + std::to_string(attention.layer));
}

void check_input(const Step& step, int width) {
  if (step.input && step.input_width == width) return;
  refuse("the step needs rows of width " + std::to_string(width) +
         (step.input ? ", its own have " + std::to_string(step.input_width) : ", it has none"));
}

void check_tokens(const Step& step, const Op& embed) {
  for (int token : step.tokens) {
    // Of a slice, nobody here knows how many ids there are.
    if (token >= 0 && (embed.is_slice || token < embed.matrix.outputs())) continue;
    refuse("token " + std::to_string(token) + " is beyond the vocabulary of " +
           std::to_string(embed.matrix.outputs()));
  }
}

void check_window(const Step& step, int window) {
  for (const StepSequence& sequence : step.sequences) {
    const int visible = window > 0 ? std::max(0, sequence.position + 1 - window) : 0;
    for (int i = visible / KV_BLOCK; i < sequence.block_count; i++) {
      if (sequence.blocks[i] != GONE) continue;
      refuse("a sequence lacks its KV block " + std::to_string(i) + ", which the row at position " +
             std::to_string(sequence.position) + " sees");
    }
  }
}

void check_attention(const Step& step, const Op& attention) {
  check_sequences(step);
  check_layer(step, attention);
  check_window(step, attention.window);
}

}  // namespace exo::kernels
