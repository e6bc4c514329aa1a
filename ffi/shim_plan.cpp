// The operations of the CPU engine as primitives of MLX's lazy graph, and graphs of them recorded
// as plans. Whatever issues them is not known here: a plan is what the graph was.
#include <cstring>
#include <unordered_map>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx/transforms.h"
#include "shim_native.h"

namespace shim {

namespace {

/** The step that operations run for when they are computed one by one. */
std::shared_ptr<const ek::Step>& current_step() {
  static thread_local std::shared_ptr<const ek::Step> step;
  return step;
}

/** Rows of an array [..., width]. */
int rows_of(const mx::array& x) {
  return x.ndim() == 0 || x.shape(-1) == 0 ? 0 : int(x.size() / x.shape(-1));
}

/** One operation of a model, with what it needs beside its inputs. */
struct Recipe {
  ek::Op op;
  int row_inputs = 0;  // The first so many inputs are rows; the others are weights.
  std::shared_ptr<PackedMatrix> matrix;
  std::shared_ptr<ek::RopeTable> table;

  /** The operation, with the weights among the inputs where it looks for them. */
  ek::Op with_weights(const std::vector<mx::array>& inputs) const {
    ek::Op filled = op;
    if (matrix) filled.matrix = matrix->matrix;
    if (table) filled.table = table.get();
    size_t next = row_inputs;
    const auto weight = [&] {
      return next < inputs.size() ? inputs[next++].data<float>() : nullptr;
    };
    switch (op.kind) {
      case ek::OpKind::linear: filled.bias = weight(); break;
      case ek::OpKind::rms_norm: filled.weight = weight(); break;
      case ek::OpKind::layer_norm:
        filled.weight = weight();
        filled.bias = weight();
        break;
      case ek::OpKind::attention: filled.sinks = weight(); break;
      default: break;
    }
    return filled;
  }
};

class RowPrimitive : public mx::UnaryPrimitive {
 public:
  explicit RowPrimitive(Recipe recipe)
      : UnaryPrimitive(mx::default_stream(mx::Device::cpu)),
        recipe_(std::move(recipe)),
        step_(current_step()) {}

  const Recipe& recipe() const { return recipe_; }
  const char* name() const override { return "ExoRows"; }

  void eval_gpu(const std::vector<mx::array>&, mx::array&) override {
    throw std::runtime_error("the CPU engine's operations do not run on a GPU");
  }

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override {
    out.set_data(mx::allocator::malloc(out.nbytes()));
    for (const mx::array& input : inputs) {
      if (!input.flags().row_contiguous) throw std::runtime_error("rows must be contiguous");
    }
    std::vector<const float*> at;
    std::vector<int> widths;
    for (int i = 0; i < recipe_.row_inputs; i++) {
      at.push_back(inputs[i].data<float>());
      widths.push_back(inputs[i].shape(-1));
    }
    std::shared_ptr<const ek::Step> step = step_;
    if (recipe_.op.kind == ek::OpKind::embed) step = step_of_ids(inputs[0]);
    if (recipe_.op.kind == ek::OpKind::attention) ek::check_attention(*step, recipe_.op);
    if (recipe_.table) recipe_.table->reserve(end_of(*step));
    mx::cpu::get_command_encoder(stream()).dispatch(
        [op = recipe_.with_weights(inputs), at, widths, rows = rows_of(out), step,
         y = out.data<float>(), width = out.shape(-1), kept = recipe_.matrix]() {
          ek::run_op(op, at, widths, rows, y, width, step.get(), ek::shared_pool());
        });
  }

 private:
  static std::shared_ptr<const ek::Step> step_of_ids(const mx::array& ids) {
    auto step = std::make_shared<ek::Step>();
    step->tokens.assign(ids.data<int32_t>(), ids.data<int32_t>() + ids.size());
    return step;
  }

  static int end_of(const ek::Step& step) {
    int end = 0;
    for (int position : step.positions) end = std::max(end, position + 1);
    return end;
  }

  Recipe recipe_;
  std::shared_ptr<const ek::Step> step_;
};

mx::array float_rows(int32_t handle) {
  const mx::array& x = at(handle);
  if (x.dtype() != mx::float32) throw std::invalid_argument("rows must be float32");
  if (x.ndim() == 0) throw std::invalid_argument("rows must have a width");
  return mx::contiguous(x);
}

int32_t add_op(Recipe recipe, std::vector<mx::array> inputs, int width) {
  mx::Shape shape = inputs[0].shape();
  if (recipe.op.kind == ek::OpKind::embed) {
    shape.push_back(width);
  } else {
    shape.back() = width;
  }
  if (recipe.op.kind == ek::OpKind::select) {
    if (!current_step()) throw std::invalid_argument("no step is set whose rows could be selected");
    shape = {int32_t(current_step()->selected.size()), width};
  }
  const bool needs_step = recipe.op.kind == ek::OpKind::rope ||
                          recipe.op.kind == ek::OpKind::attention;
  if (needs_step) {
    if (!current_step()) throw std::invalid_argument("no step is set that names positions");
    if (rows_of(inputs[0]) != current_step()->rows()) {
      throw std::invalid_argument("rows of another number than the step's");
    }
  }
  auto primitive = std::make_shared<RowPrimitive>(std::move(recipe));
  return add(mx::array(std::move(shape), mx::float32, std::move(primitive), std::move(inputs)));
}

mx::array weight_vector(int32_t handle, int length) {
  const mx::array& weight = at(handle);
  if (weight.dtype() != mx::float32 || int64_t(weight.size()) != length) {
    throw std::invalid_argument("a weight must be float32 [" + std::to_string(length) + "]");
  }
  return mx::contiguous(weight);
}

/** A plan, and what it refers to. */
struct Recorded {
  ek::Plan plan;
  std::vector<mx::array> weights;
  std::vector<std::shared_ptr<PackedMatrix>> matrices;
  std::vector<std::shared_ptr<ek::RopeTable>> tables;
  int output = -1;
  ek::Step step;  // Reused from run to run.
};

Registry<Recorded>& plans() {
  static auto* all = new Registry<Recorded>("plan");
  return *all;
}

/** Follows a graph from its end to its beginning and writes it down in order. */
class Recorder {
 public:
  Recorder(Recorded& into, const mx::array& tokens) : into_(into), tokens_(tokens.id()) {}

  int record(const mx::array& x) {
    const auto found = values_.find(x.id());
    if (found != values_.end()) return found->second;
    const int value = record_new(x);
    values_.emplace(x.id(), value);
    return value;
  }

 private:
  int record_new(const mx::array& x) {
    if (!x.has_primitive()) {
      throw std::invalid_argument("cannot record a step: it reads rows that no operation makes");
    }
    if (const auto* own = dynamic_cast<const RowPrimitive*>(&x.primitive())) {
      return record_own(own->recipe(), x);
    }
    const std::string name = x.primitive().name();
    if (name == "Add" || name == "Multiply") {
      ek::Op op;
      op.kind = ek::OpKind::elementwise;
      op.function = name == "Add" ? ek::Elementwise::add : ek::Elementwise::multiply;
      require_same_rows(x, name);
      const int a = record(x.inputs()[0]), b = record(x.inputs()[1]);
      return into_.plan.add(op, {a, b}, x.shape(-1));
    }
    const bool is_view = name == "Contiguous" || name == "Reshape" || name == "Flatten" ||
                         name == "Unflatten" || name == "ExpandDims" || name == "Squeeze";
    if (is_view && x.ndim() > 0 && x.shape(-1) == x.inputs()[0].shape(-1)) {
      return record(x.inputs()[0]);
    }
    throw std::invalid_argument("cannot record a step: it uses MLX's " + name);
  }

  static void require_same_rows(const mx::array& x, const std::string& name) {
    for (const mx::array& input : x.inputs()) {
      if (input.shape() == x.shape() && input.dtype() == mx::float32) continue;
      throw std::invalid_argument(
          "cannot record a step: " + name + " of two shapes, or not in float32");
    }
  }

  int record_own(const Recipe& recipe, const mx::array& x) {
    const std::vector<mx::array>& inputs = x.inputs();
    std::vector<int> rows;
    if (recipe.op.kind == ek::OpKind::embed) {
      if (source_of(inputs[0]) != tokens_) {
        throw std::invalid_argument("cannot record a step: it embeds other ids than its tokens");
      }
    } else {
      for (int i = 0; i < recipe.row_inputs; i++) rows.push_back(record(inputs[i]));
    }
    for (size_t i = recipe.row_inputs; i < inputs.size(); i++) {
      mx::array weight = inputs[i];
      weight.eval();
      into_.weights.push_back(weight);
    }
    if (recipe.matrix) into_.matrices.push_back(recipe.matrix);
    if (recipe.table) into_.tables.push_back(recipe.table);
    return into_.plan.add(recipe.with_weights(inputs), rows, x.shape(-1));
  }

  /** The array that was given, behind copies that MLX makes of it. */
  static std::uintptr_t source_of(const mx::array& x) {
    const mx::array* source = &x;
    while (source->has_primitive() && source->inputs().size() == 1) source = &source->inputs()[0];
    return source->id();
  }

  Recorded& into_;
  std::uintptr_t tokens_;
  std::unordered_map<std::uintptr_t, int> values_;
};

/**
 * A step as numbers: rows, sequences, selected rows; then the tokens; then for each sequence its
 * rows, its first position, its number of blocks and their numbers; then the selected rows.
 */
void read_step(ek::Step& step, const int32_t* data, int32_t count) {
  const int32_t* const end = data + count;
  const auto take = [&](int64_t wanted) {
    if (wanted < 0 || end - data < wanted) throw std::invalid_argument("a step is cut short");
    const int32_t* taken = data;
    data += wanted;
    return taken;
  };
  const int32_t* head = take(3);
  const int32_t rows = head[0], sequences = head[1], selected = head[2];
  const int32_t* tokens = take(rows);
  step.tokens.assign(tokens, tokens + rows);
  step.positions.clear();
  step.sequences.clear();
  for (int32_t i = 0; i < sequences; i++) {
    const int32_t* sequence = take(3);
    const int32_t* blocks = take(sequence[2]);
    const int first_row = int(step.positions.size());
    step.sequences.push_back({first_row, sequence[0], sequence[1], blocks, sequence[2]});
    if (sequence[0] < 0 || first_row + int64_t(sequence[0]) > rows || sequence[1] < 0 ||
        sequence[1] > ek::RopeTable::POSITIONS_MAX - rows) {
      throw std::invalid_argument("a sequence has more rows than the step, or no such position");
    }
    for (int32_t row = 0; row < sequence[0]; row++) step.positions.push_back(sequence[1] + row);
  }
  const int32_t* chosen = take(selected);
  step.selected.assign(chosen, chosen + selected);
}

int end_of(const ek::Step& step) {
  int end = 0;
  for (const ek::StepSequence& one : step.sequences) end = std::max(end, one.position + one.rows);
  return end;
}

}  // namespace

OwnedRows output_of(int32_t plan) {
  std::shared_ptr<Recorded> recorded = plans().at(plan);
  const ek::Plan& own = recorded->plan;
  const int output = recorded->output;
  return {recorded, own.value(output), own.rows(output), own.width(output)};
}

}  // namespace shim

using namespace shim;

int32_t shim_packed_linear(int32_t x, int32_t matrix, int32_t bias) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::linear;
    recipe.row_inputs = 1;
    recipe.matrix = matrices().at(matrix);
    const ek::Matrix& shape = recipe.matrix->matrix;
    std::vector<mx::array> inputs{float_rows(x)};
    if (inputs[0].shape(-1) != shape.inputs()) {
      throw std::invalid_argument(
          "rows of width " + std::to_string(inputs[0].shape(-1)) + " for a matrix of " +
          std::to_string(shape.inputs()) + " inputs");
    }
    const int outputs = shape.outputs();
    if (bias) inputs.push_back(weight_vector(bias, outputs));
    return add_op(std::move(recipe), std::move(inputs), outputs);
  });
}

int32_t shim_packed_rows(int32_t ids, int32_t matrix) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::embed;
    recipe.row_inputs = 1;
    recipe.matrix = matrices().at(matrix);
    const int width = recipe.matrix->matrix.inputs();
    if (at(ids).dtype() != mx::int32) throw std::invalid_argument("token ids must be int32");
    return add_op(std::move(recipe), {mx::contiguous(at(ids))}, width);
  });
}

int32_t shim_rows_norm(
    int32_t x, int32_t weight, int32_t bias, float eps, int32_t heads, bool centered) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = centered ? ek::OpKind::layer_norm : ek::OpKind::rms_norm;
    recipe.op.eps = eps;
    recipe.op.heads = heads;
    recipe.row_inputs = 1;
    std::vector<mx::array> inputs{float_rows(x)};
    const int width = inputs[0].shape(-1);
    if (heads < 1 || width % heads != 0) throw std::invalid_argument("heads must divide the width");
    if (weight) inputs.push_back(weight_vector(weight, width / heads));
    if (bias) inputs.push_back(weight_vector(bias, width / heads));
    return add_op(std::move(recipe), std::move(inputs), width);
  });
}

int32_t shim_rows_function(int32_t function, int32_t a, int32_t b, float scalar) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::elementwise;
    recipe.op.function = ek::Elementwise(function);
    recipe.op.scalar = scalar;
    std::vector<mx::array> inputs{float_rows(a)};
    if (b) inputs.push_back(float_rows(b));
    if (b && inputs[0].shape() != inputs[1].shape()) {
      throw std::invalid_argument("rows of two shapes");
    }
    recipe.row_inputs = int(inputs.size());
    const int width = inputs[0].shape(-1);
    return add_op(std::move(recipe), std::move(inputs), width);
  });
}

int32_t shim_rows_rope(int32_t x, int32_t table, int32_t heads, bool traditional) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::rope;
    recipe.op.heads = heads;
    recipe.op.traditional = traditional;
    recipe.row_inputs = 1;
    recipe.table = rope_tables().at(table);
    std::vector<mx::array> inputs{float_rows(x)};
    const int width = inputs[0].shape(-1);
    if (heads < 1 || width % heads != 0 || width / heads < 2 * recipe.table->pairs()) {
      throw std::invalid_argument("heads are narrower than what turns of them");
    }
    return add_op(std::move(recipe), std::move(inputs), width);
  });
}

int32_t shim_rows_attention(
    int32_t queries,
    int32_t keys,
    int32_t values,
    int32_t layer,
    int32_t heads,
    int32_t kv_heads,
    float scale,
    float softcap,
    int32_t window,
    int32_t sinks) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::attention;
    recipe.op.layer = layer;
    recipe.op.heads = heads;
    recipe.op.scale = scale;
    recipe.op.softcap = softcap;
    recipe.op.window = window;
    recipe.row_inputs = 3;
    std::vector<mx::array> inputs{float_rows(queries), float_rows(keys), float_rows(values)};
    const bool fits = heads > 0 && kv_heads > 0 && heads % kv_heads == 0 &&
                      inputs[0].shape(-1) % heads == 0 && inputs[1].shape(-1) % kv_heads == 0 &&
                      inputs[2].shape(-1) % kv_heads == 0 &&
                      inputs[0].shape(-1) / heads == inputs[1].shape(-1) / kv_heads;
    if (!fits) throw std::invalid_argument("queries, keys and values do not fit together");
    const int width = inputs[2].shape(-1) / kv_heads * heads;
    if (sinks) inputs.push_back(weight_vector(sinks, heads));
    return add_op(std::move(recipe), std::move(inputs), width);
  });
}

int32_t shim_rows_select(int32_t x) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::select;
    recipe.row_inputs = 1;
    std::vector<mx::array> inputs{float_rows(x)};
    const int width = inputs[0].shape(-1);
    return add_op(std::move(recipe), std::move(inputs), width);
  });
}

int32_t shim_set_step(int32_t pool, const int32_t* data, int32_t count) {
  return guarded([=] {
    current_step() = nullptr;
    if (count == 0) return 0;
    // The numbers of the blocks are kept with the step that points to them.
    struct Owned {
      std::vector<int32_t> data;
      std::shared_ptr<ek::KvPool> kv;
      ek::Step step;
    };
    auto owned = std::make_shared<Owned>();
    owned->data.assign(data, data + count);
    read_step(owned->step, owned->data.data(), count);
    if (pool) owned->kv = kv_pools().at(pool);
    owned->step.kv = owned->kv.get();
    current_step() = std::shared_ptr<const ek::Step>(owned, &owned->step);
    return 0;
  });
}

int32_t shim_record(int32_t tokens, int32_t output) {
  return guarded([=] {
    auto recorded = std::make_shared<Recorded>();
    Recorder recorder(*recorded, at(tokens));
    recorded->output = recorder.record(at(output));
    recorded->plan.finish({recorded->output});
    return plans().add(std::move(recorded));
  });
}

static int32_t replay(
    int32_t plan, int32_t pool, const int32_t* data, int32_t count, int32_t* best) {
  const std::shared_ptr<Recorded> recorded = plans().at(plan);
  const std::shared_ptr<ek::KvPool> kv = kv_pools().at(pool);
  ek::Step& step = recorded->step;
  read_step(step, data, count);
  step.kv = kv.get();
  for (const auto& table : recorded->tables) table->reserve(end_of(step));
  recorded->plan.run(step, ek::shared_pool());
  const int width = recorded->plan.width(recorded->output);
  const int rows = recorded->plan.rows(recorded->output);
  const ek::ReduceArgs args{{recorded->plan.value(recorded->output), size_t(width)}, width};
  ek::row_kernels().argmax(args, best, 0, rows);
  return rows;
}

int32_t shim_replay(
    int32_t plan,
    int32_t pool,
    const int32_t* data,
    int32_t count,
    int32_t* best) {
  return guarded([=] { return replay(plan, pool, data, count, best); });
}

int32_t shim_replayed(int32_t plan, int32_t row) {
  return guarded([=] {
    const std::shared_ptr<Recorded> recorded = plans().at(plan);
    const int width = recorded->plan.width(recorded->output);
    if (row < 0 || row >= recorded->plan.rows(recorded->output)) {
      throw std::invalid_argument("row " + std::to_string(row) + " was not selected");
    }
    const float* values = recorded->plan.value(recorded->output) + size_t(row) * width;
    return add(mx::array(values, {width}, mx::float32));
  });
}

int32_t shim_profile(int32_t plan, double* out) {
  return guarded([=] {
    const std::shared_ptr<Recorded> recorded = plans().at(plan);
    const ek::Profile& profile = recorded->plan.profile();
    for (int kind = 0; kind < ek::Profile::KINDS; kind++) {
      out[kind] = profile.nanoseconds[kind] / 1e6;
    }
    out[ek::Profile::KINDS] = double(profile.steps);
    out[ek::Profile::KINDS + 1] = double(recorded->plan.bytes());
    out[ek::Profile::KINDS + 2] = double(recorded->plan.op_count());
    return 0;
  });
}

int32_t shim_free_plan(int32_t plan) {
  return guarded([=] {
    plans().remove(plan);
    return 0;
  });
}
