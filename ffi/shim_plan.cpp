// Steps: read from the numbers that come over the border, and run by the plan that was recorded.
#include "shim_plan.h"

#include <algorithm>

#include "shim_rows.h"

namespace shim {

namespace {

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

Registry<Recorded>& plans() {
  static auto* all = new Registry<Recorded>("plan");
  return *all;
}

OwnedRows output_of(int32_t plan) {
  std::shared_ptr<Recorded> recorded = plans().at(plan);
  const ek::Plan& own = recorded->plan;
  const int output = recorded->output;
  return {recorded, own.value(output), own.rows(output), own.width(output)};
}

}  // namespace shim

using namespace shim;

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

namespace {

/** What a step is besides its numbers. */
struct Rows {
  const float* data;
  int64_t count;  // In floats.
};

/** Its number of floats must be that of the step's rows. */
void give_rows(ek::Step& step, const Rows& rows) {
  step.input = rows.data;
  step.input_width = 0;
  if (!rows.data) return;
  const int64_t of_step = step.rows();
  if (of_step > 0 && rows.count % of_step == 0) step.input_width = int(rows.count / of_step);
  if (of_step > 0 && step.input_width > 0) return;
  throw std::invalid_argument(std::to_string(rows.count) + " floats are no " +
                              std::to_string(of_step) + " rows");
}

int32_t replay(
    const std::shared_ptr<Recorded>& recorded, int32_t pool, const int32_t* data, int32_t count,
    const Rows& given, int32_t* best) {
  const std::shared_ptr<ek::KvPool> kv = kv_pools().at(pool);
  ek::Step& step = recorded->step;
  read_step(step, data, count);
  step.kv = kv.get();
  give_rows(step, given);
  for (const auto& table : recorded->tables) table->reserve(end_of(step));
  recorded->plan.run(step, ek::shared_pool());
  step.input = nullptr;  // The caller's, until now.
  const int width = recorded->plan.width(recorded->output);
  const int rows = recorded->plan.rows(recorded->output);
  if (!best) return rows;
  const ek::ReduceArgs args{{recorded->plan.value(recorded->output), size_t(width)}, width};
  ek::row_kernels().argmax(args, best, 0, rows);
  return rows;
}

}  // namespace

int32_t shim_replay(
    int32_t plan,
    int32_t pool,
    const int32_t* data,
    int32_t count,
    const float* rows,
    double row_floats,
    int32_t* best) {
  return guarded([=] {
    const Rows given{rows, int64_t(row_floats)};
    return replay(plans().at(plan), pool, data, count, given, best);
  });
}

int32_t shim_plan_width(int32_t plan) {
  return guarded([=] {
    const std::shared_ptr<Recorded> recorded = plans().at(plan);
    return int32_t(recorded->plan.width(recorded->output));
  });
}

int32_t shim_replayed_rows(int32_t plan, float* out, double capacity) {
  return guarded([=] {
    const OwnedRows rows = output_of(plan);
    const size_t count = size_t(rows.rows) * size_t(rows.width);
    if (double(count) > capacity) throw std::length_error("there is no room for the rows");
    std::copy_n(rows.data, count, out);
    return int32_t(rows.rows);
  });
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
