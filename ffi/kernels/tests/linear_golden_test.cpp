// Packs matrices that MLX quantised and compares products and embedding rows with what MLX
// computed. Argument: the file that tests/golden/kernels/record_linear.py wrote.
#include "../linear.h"
#include "testing.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

void test_case(Reader& reader) {
  const std::vector<int32_t> head = reader.take<int32_t>(6);
  const MatrixSpec spec{head[3], head[4], head[0], head[1], Dtype(head[2])};
  const size_t outputs = size_t(spec.outputs), inputs = size_t(spec.inputs), rows = size_t(head[5]);
  const size_t groups = outputs * inputs / size_t(spec.group);
  const auto words = reader.take<uint8_t>(outputs * inputs * size_t(spec.bits) / 8);
  const auto scales = reader.take<uint8_t>(groups * dtype_bytes(spec.scales));
  const auto biases = reader.take<uint8_t>(groups * dtype_bytes(spec.scales));
  const auto x = reader.take<float>(rows * inputs);
  const auto full = reader.take<float>(outputs * inputs);
  const auto wanted = reader.take<float>(rows * outputs);
  Bytes packed(packed_bytes(spec));
  pack_affine(spec, {words.data(), scales.data(), biases.data()}, 0, spec.outputs, packed.data());
  std::vector<int32_t> ids;
  for (int32_t n = 0; n < spec.outputs; n++) ids.push_back(n);
  for (Isa isa : supported_isas()) {
    const LinearKernels& kernels = linear_kernels(isa);
    std::vector<float> y(rows * outputs), embedded(outputs * inputs);
    Bytes scratch(quantized_rows_bytes(spec, int(rows)));
    const ArrangedRows view{scratch.data(), int(rows), kernels.quantized_blocks(int(rows))};
    kernels.quantize_rows(spec, x.data(), inputs, int(rows), 0, view.blocks, scratch.data());
    kernels.linear(spec, packed.data(), view, {0, spec.outputs, 0, view.blocks},
                   {y.data(), outputs, nullptr, nullptr, 0});
    kernels.embed(spec, packed.data(), ids.data(), spec.outputs, embedded.data(), inputs);
    const double product = far_apart(y, wanted), embedding = far_apart(embedded, full);
    // Half a step of each activation, summed up. MLX rounds twice where an fma rounds once.
    check(product < 3 / ACTIVATION_MAX, "%s, %d bits, group %d: products off by %g", isa_name(isa),
          spec.bits, spec.group, product);
    check(embedding < 2e-7, "%s, %d bits, group %d: rows off by %g", isa_name(isa), spec.bits,
          spec.group, embedding);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Reader reader(argc > 1 ? argv[1] : "tests/golden/kernels/linear.bin");
  int cases = 0;
  for (; !reader.done(); cases++) test_case(reader);
  check(cases == 20, "%d cases", cases);
  return summary();
}
