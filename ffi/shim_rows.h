// An operation of the CPU engine as a primitive of MLX's lazy graph: who issues it, computes it by
// itself or records it into a plan sees the same recipe.
#pragma once
#include "mlx/primitives.h"
#include "shim_native.h"

namespace shim {

/** The step that operations run for when they are computed one by one. */
std::shared_ptr<const ek::Step>& current_step();

/** One operation of a model, with what it needs beside its inputs. */
struct Recipe {
  ek::Op op;
  int row_inputs = 0;  // The first so many inputs are rows; the others are weights.
  std::shared_ptr<PackedMatrix> matrix;
  std::shared_ptr<ek::RopeTable> table;
  std::shared_ptr<ek::Group> group;

  /** The operation, with the weights among the inputs where it looks for them. */
  ek::Op with_weights(const std::vector<mx::array>& inputs) const {
    ek::Op filled = op;
    if (matrix) filled.matrix = matrix->matrix;
    if (table) filled.table = table.get();
    filled.group = group.get();
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

/** Computes its recipe when MLX asks for it, for the step that was set when it was issued. */
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

  void eval_cpu(const std::vector<mx::array>& inputs, mx::array& out) override;

 private:
  Recipe recipe_;
  std::shared_ptr<const ek::Step> step_;
};

}  // namespace shim
