// Compares the row functions and attention with what MLX computed for the same inputs.
// Argument: the file that tests/golden/kernels/record_rows.py wrote; it lists the cases.
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "rows_cache.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

std::map<std::string, std::vector<float>> golden;
std::map<std::string, int> compared;

void read_golden(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const auto number = [&] {
    uint32_t value = 0;
    file.read(reinterpret_cast<char*>(&value), 4);
    return file ? value : 0;
  };
  for (uint32_t length = number(); length > 0; length = number()) {
    std::string name(length, 0);
    file.read(name.data(), long(length));
    std::vector<float> values(number());
    file.read(reinterpret_cast<char*>(values.data()), long(values.size() * 4));
    golden[name] = values;
  }
}

/** Each value within `tolerance` of the recorded one, or of 1 where that is smaller. */
void expect(Isa isa, const std::string& name, const std::vector<float>& found, double tolerance) {
  const std::vector<float>& wanted = golden[name];
  compared[name]++;
  check(!wanted.empty() && found.size() == wanted.size(), "%s: %zu values", name.c_str(),
        found.size());
  double most = 0;
  for (size_t i = 0; i < wanted.size() && i < found.size(); i++) {
    const double scale = std::fmax(1.0, std::fabs(double(wanted[i])));
    most = std::fmax(most, std::fabs(double(found[i]) - double(wanted[i])) / scale);
    if (std::isnan(found[i])) most = HUGE_VAL;
  }
  check(most <= tolerance, "%s, %s: off by %g", isa_name(isa), name.c_str(), most);
}

void test_rows(Isa isa, const RowKernels& kernels) {
  constexpr int ROWS = 3, WIDTH = 100;
  const auto x = noise(1, ROWS * WIDTH, 4), weight = noise(2, WIDTH), bias = noise(3, WIDTH);
  std::vector<float> out(x.size());
  NormArgs norm{{x.data(), WIDTH}, {out.data(), WIDTH}, WIDTH, 1, 1e-5f, weight.data(), nullptr};
  kernels.rms_norm(norm, 0, ROWS);
  expect(isa, "rms_norm", out, 1e-6);
  norm.bias = bias.data();
  kernels.layer_norm(norm, 0, ROWS);
  expect(isa, "layer_norm", out, 1e-6);
  kernels.softmax({{x.data(), WIDTH}, {out.data(), WIDTH}, WIDTH}, 0, ROWS);
  expect(isa, "softmax", out, 1e-6);
  std::vector<float> sums(ROWS);
  kernels.log_sum_exp({{x.data(), WIDTH}, WIDTH}, sums.data(), 0, ROWS);
  expect(isa, "logsumexp", sums, 1e-6);
  const ElementwiseArgs one{{x.data(), WIDTH}, {}, {out.data(), WIDTH}, WIDTH, 3};
  const std::pair<const char*, Elementwise> functions[] = {{"silu", Elementwise::silu},
                                                           {"gelu", Elementwise::gelu},
                                                           {"gelu_tanh", Elementwise::gelu_tanh},
                                                           {"softcap", Elementwise::softcap}};
  for (const auto& [name, function] : functions) {
    kernels.elementwise(function, one, 0, ROWS);
    expect(isa, name, out, 1e-6);
  }
}

/** The case's x is [heads, rows, head_dim]; here each head is a run of rows with one head. */
void test_rope(Isa isa, const RowKernels& kernels, const std::string& name, RopeSpec spec,
               int offset, bool traditional) {
  constexpr int HEADS = 2, ROWS = 4, DIM = 64;
  const auto x = noise(4, HEADS * ROWS * DIM);
  std::vector<float> out(x.size());
  std::vector<int32_t> positions;
  for (int i = 0; i < HEADS * ROWS; i++) positions.push_back(offset + i % ROWS);
  RopeTable table(std::move(spec));
  table.reserve(offset + ROWS);
  const RopeArgs args{{x.data(), DIM}, {out.data(), DIM}, positions.data(), &table, 1, DIM,
                      traditional};
  kernels.rope(args, 0, HEADS * ROWS);
  expect(isa, name, out, 1e-5);
}

/** The case's q, k, v and outcome are [heads, rows, dim]. */
void test_attention(Isa isa, const RowKernels& kernels, const std::string& name, int window,
                    const float* sinks) {
  constexpr int HEADS = 6, KV_HEADS = 2, DIM = 32, CONTEXT = 300, ROWS = 3;
  Cache cache(kernels, {KV_HEADS, DIM, DIM, KvDtype::f32}, CONTEXT, 1);
  const auto by_rows = [](const std::vector<float>& heads, int count, int rows) {
    std::vector<float> turned(heads.size());
    for (int h = 0; h < count; h++) {
      for (int r = 0; r < rows; r++) {
        const float* from = heads.data() + size_t(h * rows + r) * DIM;
        memcpy(turned.data() + size_t(r * count + h) * DIM, from, DIM * sizeof(float));
      }
    }
    return turned;
  };
  cache.k = by_rows(noise(6, KV_HEADS * CONTEXT * DIM), KV_HEADS, CONTEXT);
  cache.v = by_rows(noise(7, KV_HEADS * CONTEXT * DIM), KV_HEADS, CONTEXT);
  cache.append(kernels, 0, CONTEXT);
  Query query(cache, HEADS, CONTEXT - ROWS, ROWS, 5);
  query.q = by_rows(noise(5, HEADS * ROWS * DIM, 3), HEADS, ROWS);
  query.args.q.data = query.q.data();
  query.args.scale = 1 / std::sqrt(float(DIM));
  query.args.window = window;
  query.args.sinks = sinks;
  kernels.attention_rows(query.args, 0, attention_items(query.args));
  expect(isa, name, by_rows(query.out, ROWS, HEADS), 2e-6);
}

}  // namespace

int main(int argc, char** argv) {
  read_golden(argc > 1 ? argv[1] : "tests/golden/kernels/rows.bin");
  std::vector<float> periods;
  for (int i = 1; i <= 32; i++) periods.push_back(1 / (float(i) * 1.5f));
  const auto sinks = noise(8, 6, 4);
  const auto &all = golden["frequencies_32"], &some = golden["frequencies_12"];
  for (Isa isa : supported_isas()) {
    const RowKernels& kernels = row_kernels(isa);
    test_rows(isa, kernels);
    test_rope(isa, kernels, "rope", {all}, 0, false);
    test_rope(isa, kernels, "rope_far", {all}, 8188, false);
    test_rope(isa, kernels, "rope_partial", {some}, 500, false);
    test_rope(isa, kernels, "rope_traditional", {all}, 8188, true);
    test_rope(isa, kernels, "rope_freqs", {periods}, 1000, false);
    test_attention(isa, kernels, "attention", 0, nullptr);
    test_attention(isa, kernels, "attention_window", 100, nullptr);
    test_attention(isa, kernels, "attention_sinks", 0, sinks.data());
  }
  check(compared.size() == 16 && golden.size() == 18, "%zu cases compared of %zu recorded",
        compared.size(), golden.size());
  return summary();
}
