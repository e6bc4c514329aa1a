// Packs GGUF blocks and compares the rows that come out with what gguf-py says they stand for.
// Argument: the file that tests/golden/kernels/record_linear_gguf.py wrote.
#include "../pack_gguf.h"

#include <stdexcept>
#include <string>

#include "../linear.h"
#include "testing.h"

using namespace exo::kernels;
using namespace exo::kernels::testing;

namespace {

void test_case(Reader& reader) {
  const std::vector<int32_t> head = reader.take<int32_t>(4);
  const GgmlType type = GgmlType(head[0]);
  const int rows = head[1], inputs = head[2];
  const size_t row_bytes = size_t(head[3]), width = size_t(inputs);
  const auto blocks = reader.take<uint8_t>(size_t(rows) * row_bytes);
  const auto wanted = reader.take<float>(size_t(rows) * width);
  check(gguf_row_bytes(type, inputs) == row_bytes, "type %d: bytes of a row", head[0]);
  const MatrixSpec spec = gguf_spec(type, rows, inputs);
  Bytes packed(packed_bytes(spec));
  const GgufRows second{blocks.data() + row_bytes, row_bytes};
  pack_gguf(type, spec, second, 1, rows, packed.data());  // In two parts.
  pack_gguf(type, spec, {blocks.data(), row_bytes}, 0, 1, packed.data());
  std::vector<float> found(wanted.size());
  const std::vector<int32_t> ids = {0, 1, 2};
  linear_kernels(Isa::scalar).embed(spec, packed.data(), ids.data(), rows, found.data(), width);
  const double off = far_apart(found, wanted);
  check(off < 2e-7, "type %d: rows off by %g", head[0], off);  // gguf-py rounds twice.
  // A product reads the padding of the panel too: it must be zeros, not NaN.
  const std::vector<float> x(width, 1.0f);
  Bytes scratch(quantized_rows_bytes(spec, 1));
  for (Isa isa : supported_isas()) {
    const LinearKernels& kernels = linear_kernels(isa);
    kernels.quantize_rows(spec, x.data(), width, 1, 0, 1, scratch.data());
    std::vector<float> y(wanted.size() / width), sums(wanted.size() / width, 0.0f);
    kernels.linear(spec, packed.data(), {scratch.data(), 1, 1}, {0, rows, 0, 1},
                   {y.data(), size_t(rows), nullptr, nullptr, 0});
    for (size_t i = 0; i < wanted.size(); i++) sums[i / width] += wanted[i];
    const double sum_off = far_apart(y, sums);
    check(sum_off < 1e-3, "%s, type %d: sums off by %g", isa_name(isa), head[0], sum_off);
  }
}

/** A slice of the columns has the same values, though it begins and ends inside of blocks. */
void test_columns(Reader& reader) {
  const std::vector<int32_t> head = reader.take<int32_t>(4);
  const GgmlType type = GgmlType(head[0]);
  const int rows = head[1], inputs = head[2];
  const size_t row_bytes = size_t(head[3]), width = size_t(inputs);
  const auto blocks = reader.take<uint8_t>(size_t(rows) * row_bytes);
  const auto wanted = reader.take<float>(size_t(rows) * width);
  MatrixSpec spec = gguf_spec(type, rows, inputs);
  const int first = 1, groups = inputs / spec.group - 1;  // All but the first group.
  spec.inputs = groups * spec.group;
  Bytes packed(packed_bytes(spec));
  pack_gguf(type, spec, {blocks.data(), row_bytes, first}, 0, rows, packed.data());
  std::vector<float> found(size_t(rows) * size_t(spec.inputs)), expected;
  std::vector<int32_t> ids;
  for (int row = 0; row < rows; row++) {
    ids.push_back(row);
    const auto at = wanted.begin() + row * inputs;
    expected.insert(expected.end(), at + spec.group, at + inputs);
  }
  linear_kernels(Isa::scalar)
      .embed(spec, packed.data(), ids.data(), rows, found.data(), size_t(spec.inputs));
  const double off = far_apart(found, expected);
  check(off < 2e-7, "type %d: columns off by %g", head[0], off);
}

void test_refusal() {
  std::string refusal;
  try {
    gguf_spec(GgmlType::q4_k, 16, 128);
  } catch (const std::invalid_argument& error) {
    refusal = error.what();
  }
  check(refusal == "Cannot pack a GGUF tensor: inputs 128, a multiple of 256 needed", "%s",
        refusal.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const char* path = argc > 1 ? argv[1] : "tests/golden/kernels/linear_gguf.bin";
  for (Reader sliced(path); !sliced.done();) test_columns(sliced);
  Reader reader(path);
  int cases = 0;
  for (; !reader.done(); cases++) test_case(reader);
  check(cases == 10, "%d cases", cases);
  test_refusal();
  return summary();
}
