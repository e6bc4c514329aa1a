// The operations of the CPU engine, one C function each: they put primitives into MLX's lazy graph,
// which computes them one by one, or from which a plan is recorded.
#include "shim_rows.h"

#include <algorithm>
#include <atomic>
#include <limits>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "shim_group.h"

namespace shim {

namespace {

/** Rows of an array [..., width]. */
int rows_of(const mx::array& x) {
  return x.ndim() == 0 || x.shape(-1) == 0 ? 0 : int(x.size() / x.shape(-1));
}

std::shared_ptr<const ek::Step> step_of_ids(const mx::array& ids) {
  auto step = std::make_shared<ek::Step>();
  step->tokens.assign(ids.data<int32_t>(), ids.data<int32_t>() + ids.size());
  return step;
}

int end_of(const ek::Step& step) {
  int end = 0;
  for (int position : step.positions) end = std::max(end, position + 1);
  return end;
}

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

/** The message of a sum that failed where nothing could be thrown. */
struct LostSum {
  std::mutex mutex;
  std::atomic<bool> is_there{false};
  std::string message;
};

LostSum& lost_sum() {
  static auto* lost = new LostSum;
  return *lost;
}

/** Runs an operation for MLX. A sum that fails leaves NaN, which nobody reads: see throw_lost_sum. */
template <class F>
void run_for_mlx(float* y, size_t count, F&& run) noexcept {
  try {
    run();
  } catch (const std::exception& error) {
    std::fill_n(y, count, std::numeric_limits<float>::quiet_NaN());
    LostSum& lost = lost_sum();
    const std::lock_guard lock(lost.mutex);
    lost.message = error.what();
    lost.is_there = true;
  }
}

mx::array weight_vector(int32_t handle, int length) {
  const mx::array& weight = at(handle);
  if (weight.dtype() != mx::float32 || int64_t(weight.size()) != length) {
    throw std::invalid_argument("a weight must be float32 [" + std::to_string(length) + "]");
  }
  return mx::contiguous(weight);
}

}  // namespace

void throw_lost_sum() {
  LostSum& lost = lost_sum();
  if (!lost.is_there) return;
  const std::lock_guard lock(lost.mutex);
  lost.is_there = false;
  throw ek::GroupError(lost.message);
}

std::shared_ptr<const ek::Step>& current_step() {
  static thread_local std::shared_ptr<const ek::Step> step;
  return step;
}

void RowPrimitive::eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) {
  if (recipe_.op.kind == ek::OpKind::input) {
    throw std::runtime_error("rows that a plan is recorded with cannot be computed");
  }
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
       y = out.data<float>(), width = out.shape(-1), kept = recipe_.matrix,
       group = recipe_.group]() {
        const auto run = [&] {
          ek::run_op(op, at, widths, rows, y, width, step.get(), ek::shared_pool());
        };
        group ? run_for_mlx(y, size_t(rows) * width, run) : run();
      });
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

int32_t shim_packed_rows(int32_t ids, int32_t matrix, int32_t first_id) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::embed;
    recipe.row_inputs = 1;
    recipe.matrix = matrices().at(matrix);
    recipe.op.is_slice = first_id >= 0;
    recipe.op.first_id = std::max(first_id, 0);
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

int32_t shim_rows_input(int32_t rows, int32_t width) {
  return guarded([=] {
    if (rows < 0 || width < 1) throw std::invalid_argument("rows of no width");
    Recipe recipe;
    recipe.op.kind = ek::OpKind::input;
    auto primitive = std::make_shared<RowPrimitive>(std::move(recipe));
    return add(mx::array(mx::Shape{rows, width}, mx::float32, std::move(primitive), {}));
  });
}

int32_t shim_rows_sum(int32_t x, int32_t group) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::sum;
    recipe.row_inputs = 1;
    recipe.group = group_at(group);
    std::vector<mx::array> inputs{float_rows(x)};
    const int width = inputs[0].shape(-1);
    return add_op(std::move(recipe), std::move(inputs), width);
  });
}

int32_t shim_rows_gather(int32_t x, int32_t group, int32_t width) {
  return guarded([=] {
    Recipe recipe;
    recipe.op.kind = ek::OpKind::gather;
    recipe.row_inputs = 1;
    recipe.group = group_at(group);
    std::vector<mx::array> inputs{float_rows(x)};
    const ek::GroupSpec& spec = recipe.group->spec();
    const size_t own = ek::segment_of(spec.rank, spec.size, std::max(width, 0)).width();
    if (size_t(inputs[0].shape(-1)) != own) {
      throw std::invalid_argument(
          "rows of width " + std::to_string(inputs[0].shape(-1)) + ", this rank's segment of " +
          std::to_string(width) + " features has " + std::to_string(own));
    }
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
