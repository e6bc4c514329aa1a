#include "plan.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "plan_ops.h"

namespace exo::kernels {

namespace {

/** What a value is, and where in its arena it lies. */
struct Value {
  int width;
  RowSet rows;
  size_t offset = 0;  // In floats for each row; the arena is [offset][rows].
  bool is_kept = false;
};

/** One linear of several that read the same rows. */
struct Target {
  Op op;
  int out;
  int residual = -1;
};

/** What a step runs: one operation, or the linears of one input. */
struct Instruction {
  Op op;
  std::vector<int> inputs;
  int out = -1;
  std::vector<Target> targets;  // Where op.kind is linear; `out` is not used then.
};

/** Floats of a row are rounded up, so that rows of all values begin at whole cache lines. */
constexpr size_t ROW_FLOATS = ALIGN / sizeof(float);

/** Gives out ranges of an arena and takes them back. */
class Ranges {
 public:
  size_t take(size_t size) {
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->second < size) continue;
      const size_t offset = it->first;
      it->first += size;
      it->second -= size;
      if (it->second == 0) free_.erase(it);
      return offset;
    }
    const size_t offset = end_;
    end_ += size;
    return offset;
  }

  void give_back(size_t offset, size_t size) {
    free_.push_back({offset, size});
    std::sort(free_.begin(), free_.end());
    for (size_t i = 0; i + 1 < free_.size();) {
      if (free_[i].first + free_[i].second != free_[i + 1].first) {
        i++;
        continue;
      }
      free_[i].second += free_[i + 1].second;
      free_.erase(free_.begin() + i + 1);
    }
  }

  size_t size() const { return end_; }

 private:
  std::vector<std::pair<size_t, size_t>> free_;  // (offset, size), ascending, never touching.
  size_t end_ = 0;
};

}  // namespace

struct Plan::Impl {
  std::vector<Value> values;
  std::vector<Instruction> instructions;
  std::array<size_t, 2> arena_floats{};  // For each row, by RowSet.
  std::array<Buffer, 2> arenas;
  std::array<int, 2> rows{};  // Of the last step.
  Buffer arranged, partials;
  std::vector<uint8_t*> pointers;
  std::vector<Product> products;
  bool is_finished = false;
  Profile profile;

  float* at(int id) const {
    const Value& value = values[id];
    const int set = int(value.rows);
    return reinterpret_cast<float*>(arenas[set].data()) + value.offset * rows[set];
  }

  /** How often a value is read. */
  std::vector<int> uses() const {
    std::vector<int> count(values.size());
    for (const Instruction& one : instructions) {
      for (int id : one.inputs) count[id]++;
      for (const Target& target : one.targets) {
        if (target.residual >= 0) count[target.residual]++;
      }
    }
    for (size_t id = 0; id < values.size(); id++) count[id] += values[id].is_kept;
    return count;
  }

  void join_residuals();
  void join_siblings();
  void lay_out();
  void check(const Step& step) const;
  void run(const Instruction& one, const Workbench& bench);
};

Plan::Plan() : impl_(std::make_unique<Impl>()) {}
Plan::~Plan() = default;

int Plan::add(const Op& op, const std::vector<int>& inputs, int width) {
  Impl& own = *impl_;
  if (own.is_finished) throw std::logic_error("the plan is finished");
  for (int id : inputs) {
    if (id < 0 || size_t(id) >= own.values.size()) throw std::logic_error("no such value");
  }
  RowSet rows = inputs.empty() ? RowSet::step : own.values[inputs[0]].rows;
  if (op.kind == OpKind::select) rows = RowSet::selected;
  const int out = int(own.values.size());
  own.values.push_back({width, rows});
  Instruction one{op, inputs, out, {}};
  if (op.kind == OpKind::linear) one.targets.push_back({op, out});
  own.instructions.push_back(std::move(one));
  return out;
}

/** x + linear(y), of a linear that nobody else reads, becomes one operation. */
void Plan::Impl::join_residuals() {
  const std::vector<int> count = uses();
  std::vector<int> maker(values.size(), -1);  // The linear that makes a value.
  std::vector<bool> is_gone(instructions.size());
  std::vector<int> made_at(values.size(), -1);
  for (size_t i = 0; i < instructions.size(); i++) {
    Instruction& one = instructions[i];
    made_at[one.out] = int(i);
    if (one.op.kind == OpKind::linear) maker[one.out] = int(i);
    const bool is_add = one.op.kind == OpKind::elementwise && one.op.function == Elementwise::add;
    if (!is_add) continue;
    for (int side : {1, 0}) {
      const int linear = maker[one.inputs[side]], other = one.inputs[1 - side];
      // The other operand must be there when the linear runs.
      if (linear < 0 || is_gone[linear] || count[one.inputs[side]] != 1) continue;
      if (made_at[other] > linear || one.inputs[0] == one.inputs[1]) continue;
      Target& target = instructions[linear].targets[0];
      if (target.residual >= 0) continue;
      target.residual = other;
      target.out = instructions[linear].out = one.out;
      made_at[one.out] = linear;
      maker[one.out] = -1;
      is_gone[i] = true;
      break;
    }
  }
  std::vector<Instruction> left;
  for (size_t i = 0; i < instructions.size(); i++) {
    if (!is_gone[i]) left.push_back(std::move(instructions[i]));
  }
  instructions = std::move(left);
}

/** Linears of the same rows share one arrangement of them and one hand-over to the threads. */
void Plan::Impl::join_siblings() {
  std::vector<Instruction> left;
  for (Instruction& one : instructions) {
    bool is_joined = false;
    if (one.op.kind == OpKind::linear && one.targets[0].residual < 0) {
      for (Instruction& before : left) {
        if (before.op.kind != OpKind::linear || before.inputs[0] != one.inputs[0]) continue;
        if (!same_rows(before.op.matrix, one.op.matrix)) continue;
        before.targets.push_back(one.targets[0]);
        is_joined = true;
        break;
      }
    }
    if (!is_joined) left.push_back(std::move(one));
  }
  instructions = std::move(left);
}

/** Gives each value a place in its arena for as long as it is needed. */
void Plan::Impl::lay_out() {
  std::vector<int> last(values.size(), -1);
  const int end = int(instructions.size());
  for (int i = 0; i < end; i++) {
    for (int id : instructions[i].inputs) last[id] = i;
    for (const Target& target : instructions[i].targets) {
      if (target.residual >= 0) last[target.residual] = i;
    }
  }
  std::array<Ranges, 2> ranges;
  const auto size_of = [](const Value& value) {
    return (size_t(value.width) + ROW_FLOATS - 1) / ROW_FLOATS * ROW_FLOATS;
  };
  for (int i = 0; i < end; i++) {
    const auto make = [&](int id) {
      values[id].offset = ranges[int(values[id].rows)].take(size_of(values[id]));
    };
    if (instructions[i].targets.empty()) make(instructions[i].out);
    for (const Target& target : instructions[i].targets) make(target.out);
    for (size_t id = 0; id < values.size(); id++) {
      if (last[id] != i || values[id].is_kept) continue;
      ranges[int(values[id].rows)].give_back(values[id].offset, size_of(values[id]));
    }
  }
  for (int set = 0; set < 2; set++) arena_floats[set] = ranges[set].size();
}

void Plan::finish(const std::vector<int>& outputs) {
  Impl& own = *impl_;
  if (own.is_finished) throw std::logic_error("the plan is finished");
  for (int id : outputs) own.values.at(id).is_kept = true;
  own.join_residuals();
  own.join_siblings();
  own.lay_out();
  own.is_finished = true;
}

void Plan::Impl::check(const Step& step) const {
  if (!is_finished) refuse("the plan is not finished");
  if (step.positions.size() != step.tokens.size()) refuse("a step needs a position for each row");
  check_sequences(step);
  for (int row : step.selected) {
    if (row < 0 || row >= step.rows()) refuse("a selected row is none of the step");
  }
  int widest = 1;  // Window of all layers; 0: one of them sees everything.
  for (const Instruction& one : instructions) {
    if (one.op.kind == OpKind::attention) {
      check_layer(step, one.op);
      widest = one.op.window <= 0 || widest == 0 ? 0 : std::max(widest, one.op.window);
    }
    if (one.op.kind == OpKind::input) check_input(step, values[one.out].width);
    if (one.op.kind == OpKind::embed) check_tokens(step, one.op);
  }
  check_window(step, widest);
}

void Plan::Impl::run(const Instruction& one, const Workbench& bench) {
  if (!one.targets.empty()) {
    products.clear();
    for (const Target& target : one.targets) {
      products.push_back({&target.op.matrix, target.op.bias,
                          target.residual < 0 ? nullptr : at(target.residual), at(target.out)});
    }
    return run_products(bench, at(one.inputs[0]), rows[int(values[one.inputs[0]].rows)], products);
  }
  std::array<const float*, 3> inputs{};
  std::array<int, 3> widths{};
  for (size_t i = 0; i < one.inputs.size() && i < inputs.size(); i++) {
    inputs[i] = at(one.inputs[i]);
    widths[i] = values[one.inputs[i]].width;
  }
  const Value& out = values[one.out];
  const int out_rows = rows[int(out.rows)];
  run_other(bench, one.op, inputs.data(), widths.data(), out_rows, at(one.out), out.width);
}

void Plan::run(const Step& step, Pool& pool) {
  Impl& own = *impl_;
  own.check(step);
  own.rows = {step.rows(), int(step.selected.size())};
  for (int set = 0; set < 2; set++) {
    own.arenas[set].reserve(own.arena_floats[set] * own.rows[set] * sizeof(float));
  }
  const Workbench bench{pool, &step, own.arranged, own.partials, own.pointers};
  // Looking at the clock costs a thousandth of the smallest model's step.
  using Clock = std::chrono::steady_clock;
  auto before = Clock::now();
  for (const Instruction& one : own.instructions) {
    own.run(one, bench);
    const auto now = Clock::now();
    own.profile.nanoseconds[int(one.op.kind)] +=
        std::chrono::duration_cast<std::chrono::nanoseconds>(now - before).count();
    before = now;
  }
  own.profile.steps++;
}

const float* Plan::value(int id) const { return impl_->at(id); }
int Plan::width(int id) const { return impl_->values.at(id).width; }
int Plan::rows(int id) const { return impl_->rows[int(impl_->values.at(id).rows)]; }
const Profile& Plan::profile() const { return impl_->profile; }
int Plan::op_count() const { return int(impl_->instructions.size()); }

size_t Plan::bytes() const {
  const Impl& own = *impl_;
  return own.arenas[0].size() + own.arenas[1].size() + own.arranged.size() + own.partials.size();
}

}  // namespace exo::kernels
