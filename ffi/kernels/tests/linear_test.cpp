// Tests of packing and of the linear kernels, on every instruction set of this machine, against the
// arithmetic that linear.h promises (bit for bit) and against products in double precision.
// Arguments: "short" leaves out most of the grid, for slow sanitizers.
#include "../linear.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "../pool.h"
#include "linear_reference.h"
#include "testing.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

std::string describe(const MatrixSpec& spec, int rows) {
  return std::to_string(spec.outputs) + "x" + std::to_string(spec.inputs) + ", " +
         std::to_string(spec.bits) + " bits, group " + std::to_string(spec.group) + ", scales " +
         std::to_string(int(spec.scales)) + ", " + std::to_string(rows) + " rows";
}

/** A product by one instruction set, in as many calls as `splits` asks for. */
std::vector<float> product(Isa isa, const Quantized& w, const std::vector<float>& x, int rows,
                           Output output = {}, int splits = 1) {
  const LinearKernels& kernels = linear_kernels(isa);
  const Bytes packed = w.pack();
  const Bytes scratch(quantized_rows_bytes(w.spec, rows));
  const ArrangedRows view{scratch.data(), rows, kernels.quantized_blocks(rows)};
  for (int block = 0; block < view.blocks; block++) {
    kernels.quantize_rows(w.spec, x.data(), size_t(w.spec.inputs), rows, block, block + 1,
                          const_cast<uint8_t*>(scratch.data()));
  }
  const size_t outputs = size_t(w.spec.outputs);
  std::vector<float> y(outputs * size_t(rows), -77.0f);
  if (output.y == nullptr) output.y = y.data(), output.stride = outputs;
  const int panels = panel_count(w.spec.outputs);
  for (int i = 0; i < splits; i++) {
    const int begin = panels * i / splits * PANEL, end = panels * (i + 1) / splits * PANEL;
    const int middle = view.blocks * i / splits;
    kernels.linear(w.spec, packed.data(), view, {begin, end, middle, view.blocks}, output);
    kernels.linear(w.spec, packed.data(), view, {begin, end, 0, middle}, output);
  }
  return y;
}

void expect_same(const std::vector<float>& found, const std::vector<float>& wanted,
                 const std::string& what) {
  size_t wrong = 0, first = 0;
  for (size_t i = 0; i < wanted.size(); i++) {
    if (!same_value(found[i], wanted[i]) && wrong++ == 0) first = i;
  }
  const bool equal = found.size() == wanted.size() && wrong == 0;
  check(equal, "%s: %zu of %zu differ, first %zu: %.9g, not %.9g", what.c_str(), wrong,
        wanted.size(), first, wanted.empty() ? 0.0 : double(found[first]),
        wanted.empty() ? 0.0 : double(wanted[first]));
}

/** Rounding activations to int16 moves each by half a step at most; the rest is f32 rounding. */
void expect_near_exact(const Quantized& w, const std::vector<float>& x, int rows,
                       const std::vector<float>& y, const std::string& what) {
  const int outputs = w.spec.outputs, inputs = w.spec.inputs, group = w.spec.group;
  for (int row = 0; row < rows; row++) {
    for (int n = 0; n < outputs; n++) {
      double exact = 0, size = 0, steps = 0;
      for (int k = 0; k < inputs; k++) {
        const double weight = w.exact(n, k), value = double(x[size_t(row) * inputs + k]);
        float peak = 0;
        const int first = k / ACTIVATION_SPAN * ACTIVATION_SPAN;
        for (int i = first; i < std::min(first + ACTIVATION_SPAN, inputs); i++) {
          peak = std::fmax(peak, std::fabs(x[size_t(row) * inputs + i]));
        }
        exact += weight * value;
        const double scale = std::fabs(double(w.scale(n, k / group)));
        const double bias = std::fabs(double(w.bias(n, k / group)));
        size += (scale * ((1 << w.spec.bits) - 1) + bias) * double(peak);
        steps += std::fabs(weight) * double(peak) / ACTIVATION_MAX * 0.50001;
      }
      const double found = double(y[size_t(row) * outputs + n]);
      check(std::fabs(found - exact) <= steps + size * 2e-6, "%s: [%d, %d] is %.9g, exactly %.9g",
            what.c_str(), row, n, found, exact);
    }
  }
}

void test_grid(bool brief) {
  const int shapes[][2] = {{1, 1},  {5, 3},  {16, 2}, {17, 1}, {33, 4},
                           {48, 2}, {64, 3}, {0, 1},  {7, 0}};
  uint32_t seed = 1;
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    for (int group : {16, 32, 64, 128}) {
      for (Dtype scales : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
        for (const auto& [outputs, groups] : shapes) {
          if (brief && (seed++ % 7 != 0 || outputs > 40)) continue;
          const Quantized w({outputs, groups * group, bits, group, scales}, seed++);
          Noise noise(seed++);
          const int rows = int(seed % 5 == 0 ? 0 : seed % 5 == 1 ? 1 : 1 + noise.index(40));
          std::vector<float> x(size_t(rows) * size_t(w.spec.inputs));
          for (float& value : x) value = noise.uniform() * (noise.index(9) == 0 ? 100.0f : 1.0f);
          const std::vector<float> wanted = w.reference(x, rows);
          for (Isa isa : supported_isas()) {
            const std::string what = std::string(isa_name(isa)) + ", " + describe(w.spec, rows);
            expect_same(product(isa, w, x, rows), wanted, what);
          }
          if (seed % 3 == 0) expect_near_exact(w, x, rows, wanted, describe(w.spec, rows));
        }
      }
    }
  }
}

void test_a_row_alone_equals_the_row_in_a_batch(bool brief) {
  for (int bits : {2, 4, 8}) {
    const Quantized w({80, 192, bits, 32, Dtype::f16}, uint32_t(bits));
    Noise noise(99);
    std::vector<float> x(size_t(64) * 192);
    for (float& value : x) value = noise.uniform();
    for (Isa isa : supported_isas()) {
      const std::vector<float> all = product(isa, w, x, 64);
      for (int rows = 1; rows <= 64; rows += brief ? 13 : 1) {
        const int first = noise.index(65 - rows);
        const std::vector<float> some(x.begin() + first * 192, x.begin() + (first + rows) * 192);
        const std::vector<float> wanted(all.begin() + first * 80,
                                        all.begin() + (first + rows) * 80);
        const int splits = 1 + noise.index(5);
        const std::string what = std::string(isa_name(isa)) + ": " + std::to_string(rows) +
                                 " rows from " + std::to_string(first) + " of 64";
        expect_same(product(isa, w, some, rows, {}, splits), wanted, what);
      }
    }
  }
}

void test_non_finite_rows_stay_alone() {
  const Quantized w({20, 64, 4, 32, Dtype::f32}, 5);
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
  for (Isa isa : supported_isas()) {
    for (int i = 0; i < 8; i++) {
      const int rows = i < 4 ? 14 : 29;  // Few, and as many as tiles want.
      const float value = bad[i % 4];
      Noise noise(3);
      std::vector<float> x(size_t(rows) * 64);
      for (float& each : x) each = noise.uniform();
      std::vector<float> wanted = product(isa, w, x, rows);
      x[5 * 64 + 40] = value;
      for (int n = 0; n < 20; n++) wanted[size_t(5 * 20 + n)] = NAN;
      expect_same(product(isa, w, x, rows), wanted, std::string(isa_name(isa)) + ": one bad row");
    }
  }
}

void test_extreme_rows() {
  const Quantized w({16, 32, 4, 32, Dtype::f32}, 6);
  for (Isa isa : supported_isas()) {
    for (float size : {0.0f, -0.0f, 1e-45f, 1e-38f, 1e-31f, 1e-29f, 1e30f, 3.4e38f}) {
      std::vector<float> x(32 * 24);
      for (int k = 0; k < 32 * 24; k++) x[size_t(k)] = k % 3 == 1 ? -size : size;
      for (int rows : {1, 24}) {
        expect_same(product(isa, w, x, rows), w.reference(x, rows),
                    std::string(isa_name(isa)) + ", size " + std::to_string(size));
      }
    }
  }
}

/** Tiles work through inputs in chunks and through rows in passes: more than one of each. */
void test_many_inputs_and_rows(bool brief) {
  const struct {
    MatrixSpec spec;
    int rows;
  } cases[] = {{{40, 1568, 4, 32, Dtype::f16}, 25},  {{17, 1664, 8, 128, Dtype::bf16}, 31},
               {{16, 1552, 4, 16, Dtype::f32}, 24},  {{70, 64, 2, 64, Dtype::f32}, 300},
               {{16, 2048, 4, 32, Dtype::f16}, 247}, {{1, 20480, 4, 32, Dtype::f16}, 70}};
  for (const auto& [spec, rows] : cases) {
    if (brief && rows > 100) continue;
    const Quantized w(spec, 21);
    Noise noise(22);
    std::vector<float> x(size_t(rows) * size_t(spec.inputs));
    for (float& value : x) value = noise.uniform();
    const std::vector<float> wanted = w.reference(x, rows);
    for (Isa isa : supported_isas()) {
      if (isa == Isa::scalar) continue;  // Has neither chunks nor passes, and is slow.
      const std::string what = std::string(isa_name(isa)) + ", " + describe(spec, rows);
      expect_same(product(isa, w, x, rows), wanted, what);
      expect_same(product(isa, w, x, rows, {}, 3), wanted, what + ", in parts");
    }
  }
}

/** The largest integer sums that can be: all values at their most, all inputs at the peak. */
void test_largest_sums() {
  for (int bits : {2, 4, 8}) {
    Quantized w({16, 256, bits, 128, Dtype::f32}, 13);
    std::fill(w.words.begin(), w.words.end(), uint8_t(0xff));
    for (int rows : {1, 5, 25}) {
      for (float sign : {1.0f, -1.0f}) {
        const std::vector<float> x(size_t(rows) * 256, sign * 3.0f), wanted = w.reference(x, rows);
        for (Isa isa : supported_isas()) {
          expect_same(product(isa, w, x, rows), wanted, std::string(isa_name(isa)) + ": all ones");
        }
      }
    }
  }
}

void test_bias_residual_and_bounds() {
  const int rows = 27, outputs = 37, stride = 50;
  const Quantized w({outputs, 96, 4, 32, Dtype::bf16}, 8);
  Noise noise(4);
  std::vector<float> x(size_t(rows) * 96), bias(outputs), residual(size_t(rows) * stride);
  for (float& value : x) value = noise.uniform();
  for (float& value : bias) value = noise.uniform();
  for (float& value : residual) value = noise.uniform();
  const std::vector<float> plain = w.reference(x, rows);
  for (Isa isa : supported_isas()) {
    for (int mode = 0; mode < 4; mode++) {
      std::vector<float> y = residual;  // Also the residual: it may be y itself.
      Output output{y.data(), stride, mode & 1 ? bias.data() : nullptr,
                    mode & 2 ? y.data() : nullptr, stride};
      product(isa, w, x, rows, output);
      std::vector<float> wanted = residual;
      for (int row = 0; row < rows; row++) {
        for (int n = 0; n < outputs; n++) {
          float& value = wanted[size_t(row * stride + n)];
          float sum = plain[size_t(row * outputs + n)];
          if (mode & 1) sum = sum + bias[size_t(n)];
          value = mode & 2 ? value + sum : sum;
        }
      }
      expect_same(y, wanted, std::string(isa_name(isa)) + ", output mode " + std::to_string(mode));
    }
  }
}

void test_embedding_rows() {
  for (int bits : {2, 3, 4, 5, 6, 8}) {
    const Quantized w({35, 128, bits, 64, Dtype::f16}, uint32_t(bits));
    const Bytes packed = w.pack();
    const int32_t ids[] = {34, 0, 16, 15, 34};
    for (Isa isa : supported_isas()) {
      std::vector<float> y(5 * 130, -1.0f);
      linear_kernels(isa).embed(w.spec, packed.data(), ids, 5, y.data(), 130);
      bool right = true;
      for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 128; k++) right &= y[size_t(i * 130 + k)] == w.dequantized(ids[i], k);
        right &= y[size_t(i * 130 + 128)] == -1.0f;
      }
      check(right, "%s: embedding rows of %d bits", isa_name(isa), bits);
    }
  }
}

uint32_t load_word(const uint8_t* at, int index) {
  uint32_t word;
  memcpy(&word, at + size_t(index) * 4, 4);
  return word;
}

void test_packing_by_parts_is_the_same() {
  const Quantized w({37, 64, 4, 32, Dtype::f16}, 11);
  const Bytes whole = w.pack();
  const size_t bytes = packed_bytes(w.spec);
  const Bytes parts(bytes);
  for (const auto& [begin, end] : {std::pair{20, 37}, {0, 3}, {3, 18}, {18, 20}}) {
    w.pack_rows(begin, end, const_cast<uint8_t*>(parts.data()));
  }
  check(memcmp(whole.data(), parts.data(), bytes) == 0, "rows packed in parts");
  // Lanes beyond the last output hold zeros: rubbish might be subnormal, which is slow.
  const uint8_t* last = whole.data() + 2 * panel_bytes(w.spec);
  int rubbish = 0;
  for (size_t group = 0; group < 2; group++, last += group_bytes(w.spec)) {
    for (int lane = 37 % PANEL; lane < PANEL; lane++) {
      for (int word = 0; word < 4; word++) rubbish += load_word(last, word * PANEL + lane) != 0;
      for (int i : {lane, PANEL + lane}) rubbish += last[4 * PANEL * 4 + i * 2] != 0;
    }
  }
  check(rubbish == 0, "%d numbers beyond the last output are not zero", rubbish);
}

void test_threads_share_a_product(bool brief) {
  const Quantized w({256, 64, 4, 32, Dtype::f16}, 12);
  const Bytes packed = w.pack();
  const int rows = 40;
  Noise noise(8);
  std::vector<float> x(size_t(rows) * 64);
  for (float& value : x) value = noise.uniform();
  for (Isa isa : supported_isas()) {
    const LinearKernels& kernels = linear_kernels(isa);
    const std::vector<float> wanted = product(isa, w, x, rows);
    Pool pool(3);
    for (int round = 0; round < (brief ? 5 : 50); round++) {
      const Bytes scratch(quantized_rows_bytes(w.spec, rows));
      auto* at = const_cast<uint8_t*>(scratch.data());
      std::vector<float> y(wanted.size());
      const ArrangedRows view{at, rows, kernels.quantized_blocks(rows)};
      pool.run(view.blocks, [&](int block) {
        kernels.quantize_rows(w.spec, x.data(), 64, rows, block, block + 1, at);
      });
      pool.run(8, [&](int chunk) {
        kernels.linear(w.spec, packed.data(), view, {chunk * 32, chunk * 32 + 32, 0, view.blocks},
                       {y.data(), 256, nullptr, nullptr, 0});
      });
      expect_same(y, wanted, std::string(isa_name(isa)) + ": three threads");
    }
  }
}

void test_refusals() {
  const auto refusal = [](const MatrixSpec& spec) {
    try {
      packed_bytes(spec);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  check(refusal({16, 32, 7, 32, Dtype::f16}) ==
            "Cannot pack a matrix: bits 7, 2, 3, 4, 5, 6 or 8 needed",
        "bits");
  check(refusal({16, 32, 4, 48, Dtype::f16}) ==
            "Cannot pack a matrix: group 48, 16, 32, 64 or 128 needed",
        "group");
  check(refusal({16, 80, 4, 32, Dtype::f16}) ==
            "Cannot pack a matrix: inputs 80, a multiple of 32 needed",
        "inputs");
  check(
      refusal({-1, 32, 4, 32, Dtype::f16}) == "Cannot pack a matrix: outputs -1, 0 or more needed",
      "outputs");
}

void test_dispatch() {
  const auto choice = [](const char* wanted) {
    try {
      return std::string(isa_name(choose_isa(wanted)));
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
  };
  const std::string best = isa_name(supported_isas().back());
  check(choice(nullptr) == best && choice("") == best, "the fastest by default");
  for (Isa isa : supported_isas()) check(choice(isa_name(isa)) == isa_name(isa), "the one named");
  const std::string refused = choice("mmx");
  check(refused.find(
            "Cannot choose CPU kernels: EXO_KERNELS is \"mmx\", this machine can run scalar") == 0,
        "%s", refused.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const bool brief = argc > 1 && strcmp(argv[1], "short") == 0;
  test_grid(brief);
  test_a_row_alone_equals_the_row_in_a_batch(brief);
  test_non_finite_rows_stay_alone();
  test_extreme_rows();
  test_many_inputs_and_rows(brief);
  test_largest_sums();
  test_bias_residual_and_bounds();
  test_embedding_rows();
  test_packing_by_parts_is_the_same();
  test_threads_share_a_product(brief);
  test_refusals();
  test_dispatch();
  return summary();
}
