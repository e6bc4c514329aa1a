// A model's step as a list of operations on rows, to be run again and again: record once, replay.
//
// A value is f32 [rows, width]. How many rows it has is known only when a step runs: all rows of
// the step, or those that the caller selected (whose logits it wants). So one plan serves every
// number of rows, and its buffers are one arena of `rows` times a width that is known beforehand.
#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "group.h"
#include "kv_pool.h"
#include "linear.h"
#include "pool.h"
#include "rows.h"

namespace exo::kernels {

/** Which rows a value has. */
enum class RowSet : uint8_t { step, selected };

/** A weight matrix, packed; its memory belongs to someone else and outlives the plan. */
struct Matrix {
  bool is_quantized = false;
  MatrixSpec spec{};   // Where it is quantised.
  DenseSpec dense{};   // Where it is not.
  const uint8_t* data = nullptr;

  int outputs() const { return is_quantized ? spec.outputs : dense.outputs; }
  int inputs() const { return is_quantized ? spec.inputs : dense.inputs; }
};

/** What an operation does. */
enum class OpKind : uint8_t {
  embed,        // Rows of `matrix`, by the step's token ids.
  linear,       // inputs[0] * transpose(matrix) + bias.
  rms_norm,     // Of each of `heads` pieces of inputs[0].
  layer_norm,
  elementwise,  // function(inputs[0], inputs[1]).
  rope,         // Turns the `heads` pieces of inputs[0] by the positions of their rows.
  attention,    // Queries, keys, values are inputs[0..2]; keys and values go into the cache.
  select,       // The selected rows of inputs[0].
  input,        // The step's own rows, of another part of the model.
  sum,          // Of inputs[0] over the ranks of `group`.
  gather,       // Each rank of `group` has a segment of the features in inputs[0].
};

/** Operations of all kinds; a kind uses the fields that are named for it. */
struct Op {
  OpKind kind = OpKind::embed;
  Matrix matrix;                        // embed, linear
  const float* weight = nullptr;        // norms: [width / heads]
  const float* bias = nullptr;          // linear: [outputs]; layer_norm
  float eps = 0;                        // norms
  Elementwise function{};               // elementwise
  float scalar = 0;                     // elementwise
  const RopeTable* table = nullptr;     // rope
  bool traditional = false;             // rope
  int heads = 1;                        // norms, rope, attention
  int layer = 0;                        // attention: of the KV pool
  float scale = 1;                      // attention
  float softcap = 0;                    // attention
  int window = 0;                       // attention
  const float* sinks = nullptr;         // attention: [heads]
  bool is_slice = false;                // embed: other ranks have the other rows of the table,
  int first_id = 0;                     //   which are zeros here; its first row is of this id.
  Group* group = nullptr;               // sum, gather
};

/** The number of a KV block that was given back, since all of it has left the window. */
constexpr int32_t GONE = -1;

/** Consecutive rows of a step that belong to one sequence. */
struct StepSequence {
  int first_row = 0;
  int rows = 0;
  int position = 0;               // Of its first row.
  const int32_t* blocks = nullptr;  // Numbers of its KV blocks, in order of their positions;
  int block_count = 0;              // GONE for those that no row sees any more.
};

/** One step: rows of tokens, of one sequence or of many. */
struct Step {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;       // Of each row.
  std::vector<StepSequence> sequences;  // Cover all rows, in order.
  std::vector<int32_t> selected;        // Rows, ascending.
  KvPool* kv = nullptr;
  const float* input = nullptr;         // [rows, input_width] for the operation of that name.
  int input_width = 0;

  int rows() const { return int(tokens.size()); }
};

/** How long the operations of each kind took since the plan was made. */
struct Profile {
  static constexpr int KINDS = 11;
  std::array<int64_t, KINDS> nanoseconds{};  // By OpKind.
  int64_t steps = 0;
};

/** Operations recorded from a model, and the memory that they need. */
class Plan {
 public:
  Plan();
  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  /** Records an operation on values made before; the number of its result, [rows, width]. */
  int add(const Op& op, const std::vector<int>& inputs, int width);

  /**
   * Ends the recording: what can be joined is joined, and buffers are laid out.
   * `outputs` are the values that are asked for after a step.
   */
  void finish(const std::vector<int>& outputs);

  /**
   * Runs all operations for one step. On the calling thread and those of the pool.
   * @throws std::invalid_argument when the step names what is not there; nothing has run then.
   * @throws GroupError when a sum fails since the group is broken; the step is lost then.
   */
  void run(const Step& step, Pool& pool);

  /** A value of the last step: [rows, width], valid until the next. */
  const float* value(int id) const;
  int width(int id) const;
  int rows(int id) const;

  const Profile& profile() const;
  /** Bytes of buffers held. */
  size_t bytes() const;
  /** Number of operations that a step runs, after joining. */
  int op_count() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/**
 * @throws std::invalid_argument when the step's sequences do not cover its rows, or KV blocks are
 * not there that attention (an operation of that kind) would read or write.
 */
void check_attention(const Step& step, const Op& attention);

/** One operation on buffers of the caller, outside of a plan. inputs[i] is [rows, widths[i]]. */
void run_op(const Op& op, const std::vector<const float*>& inputs, const std::vector<int>& widths,
            int rows, float* out, int width, const Step* step, Pool& pool);

/** The pool that this process shares: thread_count() threads, made when first used. */
Pool& shared_pool();

}  // namespace exo::kernels
