// Tests of the dense linear kernels on every instruction set of this machine, bit for bit against
// the order of operations that linear.h promises.
#include <cmath>
#include <string>

#include "../linear.h"
#include "linear_reference.h"
#include "testing.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

struct Dense {
  DenseSpec spec;
  std::vector<uint8_t> weights;

  Dense(const DenseSpec& shape, uint32_t seed) : spec(shape) {
    Noise noise(seed);
    const size_t count = size_t(spec.outputs) * size_t(spec.inputs);
    weights.resize(count * dtype_bytes(spec.dtype));
    for (size_t i = 0; i < count; i++) put_typed(spec.dtype, weights, i, noise.uniform());
  }
  float at(int n, int k) const {
    return get_typed(spec.dtype, weights, size_t(n) * size_t(spec.inputs) + size_t(k));
  }

  Bytes pack() const {
    Bytes packed(packed_bytes(spec));
    const int middle = spec.outputs / 3;  // In two parts, the later one first.
    const size_t skipped = size_t(middle) * size_t(spec.inputs) * dtype_bytes(spec.dtype);
    pack_dense(spec, weights.data() + skipped, middle, spec.outputs, packed.data());
    pack_dense(spec, weights.data(), 0, middle, packed.data());
    return packed;
  }

  std::vector<float> reference(const std::vector<float>& x, int rows) const {
    std::vector<float> y;
    for (int row = 0; row < rows; row++) {
      for (int n = 0; n < spec.outputs; n++) {
        float acc = 0;
        for (int k = 0; k < spec.inputs; k++) {
          acc = std::fmaf(x[size_t(row) * size_t(spec.inputs) + size_t(k)], at(n, k), acc);
        }
        y.push_back(acc);
      }
    }
    return y;
  }
};

std::vector<float> product(const LinearKernels& kernels, const Dense& w,
                           const std::vector<float>& x, int rows, int splits) {
  const Bytes packed = w.pack();
  Bytes scratch(arranged_rows_bytes(w.spec, rows));
  const ArrangedRows view{scratch.data(), rows, kernels.dense_blocks(rows)};
  kernels.arrange_rows(w.spec, x.data(), size_t(w.spec.inputs), rows, 0, view.blocks,
                       scratch.data());
  std::vector<float> y(size_t(rows) * size_t(w.spec.outputs), -77.0f);
  const int panels = panel_count(w.spec.outputs);
  for (int i = 0; i < splits; i++) {
    kernels.dense_linear(
        w.spec, packed.data(), view,
        {panels * i / splits * PANEL, panels * (i + 1) / splits * PANEL, 0, view.blocks},
        {y.data(), size_t(w.spec.outputs), nullptr, nullptr, 0});
  }
  return y;
}

void test_grid() {
  uint32_t seed = 1;
  for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
    for (const auto& [outputs, inputs] :
         {std::pair{1, 1}, {7, 33}, {16, 5}, {40, 64}, {129, 31}, {0, 8}, {9, 0}}) {
      const Dense w({outputs, inputs, dtype}, seed++);
      Noise noise(seed++);
      std::vector<float> x(size_t(64) * size_t(inputs));
      for (float& value : x) value = noise.uniform();
      if (inputs > 2) x[size_t(3 * inputs + 1)] = NAN, x[size_t(5 * inputs + 2)] = INFINITY;
      const std::vector<float> wanted = w.reference(x, 64);
      for (Isa isa : supported_isas()) {
        for (int rows : {0, 1, 2, 3, 5, 12, 13, 64}) {
          const std::vector<float> y = product(linear_kernels(isa), w, x, rows, 1 + rows % 3);
          bool right = true;
          for (size_t i = 0; i < y.size(); i++) right &= same_value(y[i], wanted[i]);
          check(right, "%s: %dx%d, type %d, %d rows", isa_name(isa), outputs, inputs, int(dtype),
                rows);
        }
      }
    }
  }
}

void test_embedding_rows() {
  for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
    const Dense w({20, 11, dtype}, 3);
    const Bytes packed = w.pack();
    const int32_t ids[] = {19, 2, 2};
    for (Isa isa : supported_isas()) {
      std::vector<float> y(3 * 12, -1.0f);
      linear_kernels(isa).dense_embed(w.spec, packed.data(), ids, 3, y.data(), 12);
      bool right = true;
      for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 11; k++) right &= same_bits(y[size_t(i * 12 + k)], w.at(ids[i], k));
        right &= y[size_t(i * 12 + 11)] == -1.0f;
      }
      check(right, "%s: embedding rows of type %d", isa_name(isa), int(dtype));
    }
  }
}

/** Every f16 and bf16 there is, through packing and back. */
void test_all_halves() {
  for (Dtype dtype : {Dtype::f16, Dtype::bf16}) {
    Dense w({16, 4096, dtype}, 1);
    for (int i = 0; i < 65536; i++) {
      const uint16_t half = uint16_t(i);
      memcpy(w.weights.data() + size_t(i) * 2, &half, 2);
    }
    std::vector<float> x(4096, 0.0f);
    for (Isa isa : supported_isas()) {
      int wrong = 0;
      for (int k = 0; k < 4096; k += 7) {
        // One input at a time, so that fma(1, w, -0 + ...) shows the value itself.
        const Dense column = [&] {
          Dense one({16, 1, dtype}, 1);
          for (int n = 0; n < 16; n++)
            memcpy(one.weights.data() + n * 2,
                   w.weights.data() + (size_t(n) * 4096 + size_t(k)) * 2, 2);
          return one;
        }();
        const std::vector<float> y = product(linear_kernels(isa), column, {1.0f}, 1, 1);
        for (int n = 0; n < 16; n++) wrong += !same_value(y[size_t(n)], column.at(n, 0) + 0.0f);
      }
      check(wrong == 0, "%s: %d halves of type %d are wrong", isa_name(isa), wrong, int(dtype));
    }
  }
  int wrong = 0;
  for (int i = 0; i < 65536; i++) {
    const float value = f16_to_f32(uint16_t(i)), wide = bf16_to_f32(uint16_t(i));
    const bool nan = (i & 0x7fff) > 0x7c00, wide_nan = (i & 0x7fff) > 0x7f80;
    wrong += nan ? value == value : f32_to_f16(value) != i;
    wrong += wide_nan ? wide == wide : f32_to_bf16(wide) != i;
  }
  check(wrong == 0, "%d halves do not come back", wrong);
  check(f16_to_f32(0x3555) == 0x1.554p-2f && f16_to_f32(1) == 0x1p-24f &&
            f16_to_f32(0x7bff) == 65504.0f,
        "f16 values");
  check(f32_to_f16(65519.9f) == 0x7bff && f32_to_f16(65520.0f) == 0x7c00 &&
            f32_to_f16(0x1p-25f) == 0 && f32_to_f16(0x1.8p-25f) == 1 &&
            f32_to_f16(0x1.002p0f) == 0x3c00 && f32_to_f16(0x1.006p0f) == 0x3c02,
        "f16 rounds to nearest even");
}

}  // namespace

int main() {
  test_grid();
  test_embedding_rows();
  test_all_halves();
  return summary();
}
