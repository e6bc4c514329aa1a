// Tests of norms, rotary, softmax, argmax and top-k on every instruction set of this machine:
// against formulas in double precision, a row alone against the row among others, and every
// instruction set against scalar, the last two bit for bit. Argument "short": a smaller grid.
#include <numeric>
#include <stdexcept>

#include "rows_runs.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

void test_norms(int width) {
  constexpr int ROWS = 3;
  const size_t n = size_t(width);
  const auto x = noise(uint32_t(width), n * ROWS, 3), y = noise(7, n * ROWS);
  const auto weight = noise(8, n), bias = noise(9, n);
  const auto args = [&](ConstRows in, Rows out, bool has_bias) {
    return NormArgs{in, out, width, 1, 1e-5f, weight.data(), has_bias ? bias.data() : nullptr};
  };
  const auto rms = run_rows("rms_norm", [&](const RowKernels& kernels, ConstRows a, ConstRows,
                                            Rows out, int, int begin, int end) {
    kernels.rms_norm(args(a, out, false), begin, end);
  }, x, y, width, ROWS);
  const auto layer = run_rows("layer_norm", [&](const RowKernels& kernels, ConstRows a, ConstRows,
                                                Rows out, int, int begin, int end) {
    kernels.layer_norm(args(a, out, true), begin, end);
  }, x, y, width, ROWS);
  std::vector<float> kept(n * ROWS);
  const auto added = run_rows("add_rms_norm", [&](const RowKernels& kernels, ConstRows a,
                                                  ConstRows b, Rows out, int, int begin, int end) {
    kernels.add_rms_norm({a, b, {kept.data(), n}, args({}, out, false)}, begin, end);
  }, x, y, width, ROWS);
  double worst = 0;
  for (size_t r = 0; r < ROWS; r++) {
    double squares = 0, sum = 0, spread = 0, added_squares = 0;
    for (size_t i = 0; i < n; i++) {
      const double v = x[r * n + i], w = double(x[r * n + i] + y[r * n + i]);
      squares += v * v, sum += v, added_squares += w * w;
    }
    for (size_t i = 0; i < n; i++) spread += std::pow(double(x[r * n + i]) - sum / width, 2);
    const double factor = 1 / std::sqrt(squares / width + 1e-5);
    const double added_factor = 1 / std::sqrt(added_squares / width + 1e-5);
    const double layer_factor = 1 / std::sqrt(spread / width + 1e-5);
    for (size_t i = 0; i < n; i++) {
      const size_t at = r * n + i;
      const double w = weight[i], centered = double(x[at]) - sum / width;
      worst = std::fmax(worst, relative(rms[at], x[at] * factor * w));
      worst = std::fmax(worst, relative(added[at], double(x[at] + y[at]) * added_factor * w));
      if (width > 1) {  // A row of one is its own mean.
        worst = std::fmax(worst, relative(layer[at], centered * layer_factor * w + bias[i]));
      }
    }
  }
  check(worst < 2e-6, "norms of width %d: off by %g", width, worst);
}

void test_norm_of_heads() {
  constexpr int ROWS = 2, HEADS = 3, DIM = 20;
  const auto x = noise(1, ROWS * HEADS * DIM), weight = noise(2, DIM);
  for (Isa isa : supported_isas()) {
    std::vector<float> found = x, wanted(x.size());  // In place.
    NormArgs args{{found.data(), HEADS * DIM}, {found.data(), HEADS * DIM}, DIM, HEADS, 1e-6f,
                  weight.data(), nullptr};
    row_kernels(isa).rms_norm(args, 0, ROWS);
    args = {{x.data(), DIM}, {wanted.data(), DIM}, DIM, 1, 1e-6f, weight.data(), nullptr};
    row_kernels(isa).rms_norm(args, 0, ROWS * HEADS);
    check(std::equal(found.begin(), found.end(), wanted.begin(), same_bits),
          "%s: a head's norm differs from a row's", isa_name(isa));
    found = x;
    found[DIM] = NOT_A_NUMBER;
    args = {{found.data(), HEADS * DIM}, {found.data(), HEADS * DIM}, DIM, HEADS, 1e-6f,
            nullptr, nullptr};
    row_kernels(isa).rms_norm(args, 0, 1);
    bool spread = true;
    for (int i = 0; i < DIM; i++) spread = spread && std::isnan(found[DIM + size_t(i)]);
    check(spread && !std::isnan(found[0]), "%s: NaN in a head", isa_name(isa));
  }
}

void test_rope(int pairs, int head_dim, bool traditional) {
  constexpr int ROWS = 4, HEADS = 3;
  const int width = HEADS * head_dim;
  const auto x = noise(21, size_t(ROWS * width));
  RopeSpec spec;
  for (int i = 0; i < pairs; i++) spec.frequencies.push_back(std::pow(100.0f, -float(i) / 7));
  spec.position_scale = 0.5f;
  spec.amplitude = 1.25f;
  RopeTable table(spec);
  const std::vector<int32_t> positions{0, 300, 7, 255};
  table.reserve(301);
  const auto found = run_rows("rope", [&](const RowKernels& kernels, ConstRows a, ConstRows,
                                          Rows out, int, int begin, int end) {
    kernels.rope({a, out, positions.data(), &table, HEADS, head_dim, traditional}, begin, end);
  }, x, x, width, ROWS);
  double worst = 0;
  for (int r = 0; r < ROWS; r++) {
    for (int h = 0; h < HEADS; h++) {
      const size_t at = size_t(r * width + h * head_dim);
      for (int i = 0; i < pairs; i++) {
        const size_t a = at + size_t(traditional ? 2 * i : i);
        const size_t b = at + size_t(traditional ? 2 * i + 1 : i + pairs);
        const float at_half = float(positions[size_t(r)]) * 0.5f;  // The spec's position_scale.
        const double angle = double(at_half * spec.frequencies[size_t(i)]);
        const double c = 1.25 * std::cos(angle), s = 1.25 * std::sin(angle);
        worst = std::fmax(worst, relative(found[a], x[a] * c - x[b] * s));
        worst = std::fmax(worst, relative(found[b], x[a] * s + x[b] * c));
      }
      for (int i = 2 * pairs; i < head_dim; i++) {
        check(same_bits(found[at + size_t(i)], x[at + size_t(i)]), "rope: dimension %d moved", i);
      }
    }
  }
  check(worst < 1e-6, "rope of %d pairs in %d: off by %g", pairs, head_dim, worst);
  for (Isa isa : supported_isas()) {
    std::vector<float> in_place = x;
    row_kernels(isa).rope({{in_place.data(), size_t(width)}, {in_place.data(), size_t(width)},
                           positions.data(), &table, HEADS, head_dim, traditional}, 0, ROWS);
    check(std::equal(found.begin(), found.end(), in_place.begin(), same_bits),
          "%s: rope in place differs", isa_name(isa));
  }
}

void test_rope_table() {
  RopeTable table({{1.0f, 0.5f}});
  table.reserve(RopeTable::BLOCK_POSITIONS);
  const float* first = table.row(3);
  table.reserve(2 * RopeTable::BLOCK_POSITIONS);
  table.reserve(5);
  check(table.row(3) == first, "rope: a row moved when the table grew");
  check(table.row(256)[1] == std::cos(128.0f), "rope: wrong cosine at 256");
  bool thrown = false;
  try {
    table.reserve(RopeTable::POSITIONS_MAX + 1);
  } catch (const std::length_error&) {
    thrown = true;
  }
  check(thrown, "rope: a table without an end");
}

void test_softmax(int width) {
  constexpr int ROWS = 3;
  const size_t n = size_t(width);
  const auto x = noise(31, n * ROWS, 20);
  const auto found = run_rows("softmax", [](const RowKernels& kernels, ConstRows a, ConstRows,
                                            Rows out, int w, int begin, int end) {
    kernels.softmax({a, out, w}, begin, end);
  }, x, x, width, ROWS);
  for (size_t r = 0; r < ROWS; r++) {
    double sum = 0, total = 0, worst = 0;
    for (size_t i = 0; i < n; i++) sum += std::exp(double(x[r * n + i]));
    for (size_t i = 0; i < n; i++) {
      const double exact = std::exp(double(x[r * n + i])) / sum;
      worst = std::fmax(worst, std::fabs(double(found[r * n + i]) / exact - 1));
      total += double(found[r * n + i]);
    }
    check(worst < 4e-6 && std::fabs(total - 1) < 1e-6, "softmax of %d: off by %g", width, worst);
    for (Isa isa : supported_isas()) {
      float out;
      row_kernels(isa).log_sum_exp({{x.data() + r * n, n}, width}, &out, 0, 1);
      check(relative(out, std::log(sum)) < 1e-6, "%s: log_sum_exp %g", isa_name(isa), double(out));
    }
  }
}

void test_reductions_of_odd_rows(Isa isa) {
  const RowKernels& kernels = row_kernels(isa);
  const auto log_sum = [&](std::vector<float> row) {
    float out = 0;
    kernels.log_sum_exp({{row.data(), row.size()}, int(row.size())}, &out, 0, 1);
    return out;
  };
  check(log_sum({-INF, -INF}) == -INF && log_sum({1, INF, -INF}) == INF &&
            std::isnan(log_sum({INF, NOT_A_NUMBER})) && std::isnan(log_sum({0, NOT_A_NUMBER})) &&
            std::isnan(log_sum({-INF, NOT_A_NUMBER})) && log_sum({3e38f, 3e38f}) == 3e38f,
        "%s: log_sum_exp of odd rows", isa_name(isa));
  const auto largest = [&](std::vector<float> row) {
    int32_t out = -1;
    kernels.argmax({{row.data(), row.size()}, int(row.size())}, &out, 0, 1);
    return out;
  };
  std::vector<float> row(100, 1.0f);
  row[37] = row[90] = 2;
  check(largest(row) == 37, "%s: argmax of equals", isa_name(isa));
  row[3] = NOT_A_NUMBER;
  check(largest(row) == 37, "%s: argmax beside NaN", isa_name(isa));
  row[99] = INF;
  check(largest(row) == 99, "%s: argmax at the end", isa_name(isa));
  check(largest({NOT_A_NUMBER, -INF}) == 1 && largest({NOT_A_NUMBER, NOT_A_NUMBER}) == 0 &&
            largest({-0.0f, 0.0f}) == 0 && largest({5}) == 0,
        "%s: argmax of odd rows", isa_name(isa));
  std::vector<float> nothing(20, -INF), out(20);
  kernels.softmax({{nothing.data(), 20}, {out.data(), 20}, 20}, 0, 1);
  check(std::isnan(out[0]) && std::isnan(out[19]), "%s: softmax of nothing", isa_name(isa));
  nothing[4] = 0;
  kernels.softmax({{nothing.data(), 20}, {out.data(), 20}, 20}, 0, 1);
  check(out[4] == 1 && out[0] == 0, "%s: softmax of one", isa_name(isa));
}

void test_top_k(Isa isa, const std::vector<float>& x, int k) {
  std::vector<int32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const float left = x[size_t(a)], right = x[size_t(b)];
    if (std::isnan(left) || std::isnan(right)) return !std::isnan(left) && std::isnan(right);
    return left > right;
  });
  std::vector<float> values(size_t(k) + 1, -77.0f);
  std::vector<int32_t> indices(size_t(k) + 1, -77);
  top_k(row_kernels(isa), x.data(), int(x.size()), k, values.data(), indices.data());
  bool same = values[size_t(k)] == -77.0f && indices[size_t(k)] == -77;
  for (size_t i = 0; i < size_t(k); i++) {
    same = same && indices[i] == order[i] && same_value(values[i], x[size_t(order[i])]);
  }
  check(same, "%s: top %d of %zu", isa_name(isa), k, x.size());
}

void test_top_k_grid(Isa isa) {
  const int vocabulary = is_short ? 3001 : 49152;
  std::vector<float> plain = noise(41, size_t(vocabulary), 5), equal = plain, rising, odd = plain;
  for (float& value : equal) value = std::round(value * 3);
  for (int i = 0; i < 3001; i++) rising.push_back(float(i));
  for (size_t i = 0; i < odd.size(); i += 3) odd[i] = NOT_A_NUMBER;
  for (size_t i = 1; i < odd.size(); i += 7) odd[i] = i % 2 ? INF : -INF;
  std::vector<float> falling(rising.rbegin(), rising.rend()), zeros(100, 0.0f), nothing(2500);
  for (size_t i = 0; i < zeros.size(); i += 2) zeros[i] = -0.0f;
  std::fill(nothing.begin(), nothing.end(), NOT_A_NUMBER);
  nothing[2400] = -INF;
  for (int k : {1, 2, 40, 100}) {
    for (const auto* x : {&plain, &equal, &rising, &falling, &odd, &zeros, &nothing}) {
      test_top_k(isa, *x, k);
    }
  }
  for (const auto* x : {&plain, &equal, &rising, &odd, &nothing}) test_top_k(isa, *x, TOP_K_MAX);
  test_top_k(isa, {3}, 1);
  for (int k : {0, 2, TOP_K_MAX + 1}) {
    bool thrown = false;
    try {
      test_top_k(isa, std::vector<float>(k > 2 ? 5000 : 1), k);
    } catch (const std::invalid_argument&) {
      thrown = true;
    }
    check(thrown, "%s: a top %d that is none", isa_name(isa), k);
  }
}

}  // namespace

int main(int argc, char** argv) {
  is_short = argc > 1 && std::string(argv[1]) == "short";
  for (int width : widths()) {
    test_norms(width);
    test_softmax(width);
  }
  test_norm_of_heads();
  for (bool traditional : {false, true}) {
    for (auto [pairs, dim] : {std::pair(1, 2), {8, 40}, {16, 32}, {20, 41}, {32, 64}, {37, 80}}) {
      test_rope(pairs, dim, traditional);
    }
  }
  test_rope_table();
  for (Isa isa : supported_isas()) {
    test_reductions_of_odd_rows(isa);
    test_top_k_grid(isa);
  }
  return summary();
}
