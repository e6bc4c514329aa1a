// Records a step: walks the graph that a model's operations made, and writes it down as a plan.
// Whatever issued them is not known here: a plan is what the graph was.
#include <unordered_map>

#include "shim_plan.h"
#include "shim_rows.h"

namespace shim {

namespace {

/** Follows a graph from its end to its beginning and writes it down in order. */
class Recorder {
 public:
  /** `input` is what the caller gives a step: token ids, or rows. */
  Recorder(Recorded& into, const mx::array& input) : into_(into), input_(input.id()) {}

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
      if (source_of(inputs[0]) != input_) {
        throw std::invalid_argument("cannot record a step: it embeds other ids than its tokens");
      }
    } else if (recipe.op.kind == ek::OpKind::input) {
      if (x.id() != input_) {
        throw std::invalid_argument("cannot record a step: it reads other rows than its own");
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
    if (recipe.group) into_.groups.push_back(recipe.group);
    return into_.plan.add(recipe.with_weights(inputs), rows, x.shape(-1));
  }

  /** The array that was given, behind copies that MLX makes of it. */
  static std::uintptr_t source_of(const mx::array& x) {
    const mx::array* source = &x;
    while (source->has_primitive() && source->inputs().size() == 1) source = &source->inputs()[0];
    return source->id();
  }

  Recorded& into_;
  std::uintptr_t input_;
  std::unordered_map<std::uintptr_t, int> values_;
};

}  // namespace

}  // namespace shim

using namespace shim;

int32_t shim_record(int32_t input, int32_t output) {
  return guarded([=] {
    auto recorded = std::make_shared<Recorded>();
    Recorder recorder(*recorded, at(input));
    recorded->output = recorder.record(at(output));
    recorded->plan.finish({recorded->output});
    return plans().add(std::move(recorded));
  });
}
