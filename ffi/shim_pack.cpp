// Weights of the CPU engine: packed matrices, rotary tables, and the memory that they take.
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "shim_pack.h"

namespace shim {

namespace {

ek::Dtype dtype_of_float(const mx::array& array) {
  if (array.dtype() == mx::float32) return ek::Dtype::f32;
  if (array.dtype() == mx::float16) return ek::Dtype::f16;
  if (array.dtype() == mx::bfloat16) return ek::Dtype::bf16;
  throw std::invalid_argument("weights and scales must be float32, float16 or bfloat16");
}

/** The array with its data there, row after row. */
mx::array ready(const mx::array& array) {
  mx::array plain = mx::contiguous(array);
  plain.eval();
  return plain;
}

void require_matrix(const mx::array& array, const char* name, int rows, int columns) {
  if (array.ndim() == 2 && array.shape(0) == rows && array.shape(1) == columns) return;
  throw std::invalid_argument(
      std::string(name) + " of a matrix must be [" + std::to_string(rows) + ", " +
      std::to_string(columns) + "]");
}

int32_t pack_quantized(
    const mx::array& w, const mx::array& s, const mx::array& b, int group, int bits) {
  if (group <= 0 || bits <= 0 || w.ndim() != 2 || w.dtype() != mx::uint32) {
    throw std::invalid_argument("a quantised matrix must be uint32 of two dimensions");
  }
  const int outputs = w.shape(0), inputs = int(int64_t(w.shape(1)) * 32 / bits);
  ek::MatrixSpec spec{outputs, inputs, bits, group, dtype_of_float(s)};
  const size_t bytes = ek::packed_bytes(spec);
  require_matrix(s, "scales", outputs, inputs / group);
  require_matrix(b, "biases", outputs, inputs / group);
  if (b.dtype() != s.dtype()) throw std::invalid_argument("scales and biases must be of one type");
  const mx::array words = ready(w), scales = ready(s), biases = ready(b);
  auto packed = std::make_shared<PackedMatrix>(bytes);
  const size_t row_words = size_t(w.shape(1)) * 4;
  const size_t row_scales = size_t(inputs / group) * s.itemsize();
  pack_rows(outputs, [&](int begin, int end) {
    const ek::AffineRows rows{words.data<uint8_t>() + begin * row_words,
                              scales.data<uint8_t>() + begin * row_scales,
                              biases.data<uint8_t>() + begin * row_scales};
    ek::pack_affine(spec, rows, begin, end, packed->data);
  });
  packed->matrix = {true, spec, {}, packed->data};
  return matrices().add(std::move(packed));
}

int32_t pack_plain(const mx::array& w) {
  if (w.ndim() != 2) throw std::invalid_argument("a matrix must have two dimensions");
  ek::DenseSpec spec{w.shape(0), w.shape(1), dtype_of_float(w)};
  const size_t bytes = ek::packed_bytes(spec);
  const mx::array plain = ready(w);
  auto packed = std::make_shared<PackedMatrix>(bytes);
  const size_t row_bytes = size_t(spec.inputs) * w.itemsize();
  pack_rows(spec.outputs, [&](int begin, int end) {
    ek::pack_dense(spec, plain.data<uint8_t>() + begin * row_bytes, begin, end, packed->data);
  });
  packed->matrix = {false, {}, spec, packed->data};
  return matrices().add(std::move(packed));
}

}  // namespace

Registry<PackedMatrix>& matrices() {
  static auto* all = new Registry<PackedMatrix>("packed matrix");
  return *all;
}

Registry<ek::RopeTable>& rope_tables() {
  static auto* all = new Registry<ek::RopeTable>("rotary table");
  return *all;
}

Registry<ek::KvPool>& kv_pools() {
  static auto* all = new Registry<ek::KvPool>("KV pool");
  return *all;
}

}  // namespace shim

using namespace shim;

int32_t shim_pack_matrix(
    int32_t w, int32_t scales, int32_t biases, int32_t group_size, int32_t bits) {
  return guarded([=] {
    if (scales == 0) return pack_plain(at(w));
    return pack_quantized(at(w), at(scales), at(biases), group_size, bits);
  });
}

int32_t shim_free_matrix(int32_t matrix) {
  return guarded([=] {
    matrices().remove(matrix);
    return 0;
  });
}

int32_t shim_rope_table(
    const uint8_t* frequencies, int32_t pairs, float position_scale, float amplitude) {
  return guarded([=] {
    const float* values = reinterpret_cast<const float*>(frequencies);
    ek::RopeSpec spec{{values, values + pairs}, position_scale, amplitude};
    return rope_tables().add(std::make_shared<ek::RopeTable>(std::move(spec)));
  });
}

int32_t shim_free_rope_table(int32_t table) {
  return guarded([=] {
    rope_tables().remove(table);
    return 0;
  });
}

int32_t shim_kv_pool(const int32_t* layers, int32_t layer_count) {
  return guarded([=] {
    std::vector<ek::KvShape> shapes;
    for (int32_t i = 0; i < layer_count; i++) {
      const int32_t* layer = layers + 4 * i;  // KV heads, key and value widths, type.
      if (layer[3] < 0 || layer[3] > int32_t(ek::KvDtype::q4)) {
        throw std::invalid_argument("a KV cache of type " + std::to_string(layer[3]) +
                                    ": 0 (f32), 1 (f16), 2 (q8) or 3 (q4) needed");
      }
      shapes.push_back({layer[0], layer[1], layer[2], ek::KvDtype(layer[3])});
    }
    return kv_pools().add(std::make_shared<ek::KvPool>(
        std::move(shapes), ek::KvMemory{allocate_block, release_counted}));
  });
}

int32_t shim_free_kv_pool(int32_t pool) {
  return guarded([=] {
    kv_pools().remove(pool);
    return 0;
  });
}

int32_t shim_kv_take(int32_t pool) {
  return guarded([=] { return kv_pools().at(pool)->take(); });
}

int32_t shim_kv_copy(int32_t pool, int32_t block) {
  return guarded([=] { return kv_pools().at(pool)->copy(block); });
}

int32_t shim_kv_give_back(int32_t pool, int32_t block) {
  return guarded([=] {
    kv_pools().at(pool)->give_back(block);
    return 0;
  });
}

int32_t shim_kv_block_bytes(int32_t pool, double* bytes) {
  return guarded([=] {
    *bytes = double(kv_pools().at(pool)->block_bytes());
    return 0;
  });
}
