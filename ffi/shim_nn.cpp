// Matrices, quantisation, MLX's fused ops and randomness.
#include "mlx/fast.h"
#include "mlx/ops.h"
#include "mlx/random.h"
#include "shim_internal.h"

using namespace shim;

int32_t shim_matmul(int32_t a, int32_t b) {
  return guarded([=] { return add(mx::matmul(at(a), at(b))); });
}

int32_t shim_addmm(int32_t c, int32_t a, int32_t b, float alpha, float beta) {
  return guarded([=] { return add(mx::addmm(at(c), at(a), at(b), alpha, beta)); });
}

// MLX divides by both before it checks them.
static void check_quantization(int32_t group_size, int32_t bits) {
  if (group_size > 0 && bits > 0) return;
  throw std::invalid_argument(
      "group size " + std::to_string(group_size) + " and " + std::to_string(bits) +
      " bits: both must be positive");
}

int32_t shim_quantize(
    int32_t w, int32_t group_size, int32_t bits, const char* mode, int32_t* out) {
  return guarded([=] {
    check_quantization(group_size, bits);
    // Weights and scales, and biases where the mode has them.
    return add_all(mx::quantize(at(w), group_size, bits, mode), out, 3);
  });
}

int32_t shim_dequantize(
    int32_t w,
    int32_t scales,
    int32_t biases,
    int32_t group_size,
    int32_t bits,
    const char* mode,
    int32_t type) {
  return guarded([=] {
    check_quantization(group_size, bits);
    const std::optional<mx::Dtype> dtype =
        type < 0 ? std::nullopt : std::optional<mx::Dtype>(dtype_of(type));
    return add(mx::dequantize(
        at(w), at(scales), option_of(biases), group_size, bits, mode, std::nullopt, dtype));
  });
}

int32_t shim_quantized_matmul(
    int32_t x,
    int32_t w,
    int32_t scales,
    int32_t biases,
    bool transpose,
    int32_t group_size,
    int32_t bits,
    const char* mode) {
  return guarded([=] {
    check_quantization(group_size, bits);
    return add(mx::quantized_matmul(
        at(x), at(w), at(scales), option_of(biases), transpose, group_size, bits, mode));
  });
}

int32_t shim_rms_norm(int32_t x, int32_t weight, float eps) {
  return guarded([=] { return add(mx::fast::rms_norm(at(x), option_of(weight), eps)); });
}

int32_t shim_layer_norm(int32_t x, int32_t weight, int32_t bias, float eps) {
  return guarded([=] {
    return add(mx::fast::layer_norm(at(x), option_of(weight), option_of(bias), eps));
  });
}

int32_t shim_rope(
    int32_t x,
    int32_t dims,
    bool traditional,
    float base,
    float scale,
    int32_t offset,
    int32_t offsets,
    int32_t freqs) {
  return guarded([=] {
    const std::optional<float> base_or_none = freqs ? std::nullopt : std::optional<float>(base);
    const std::optional<mx::array> table = option_of(freqs);
    if (offsets) {
      return add(mx::fast::rope(
          at(x), dims, traditional, base_or_none, scale, at(offsets), table));
    }
    return add(mx::fast::rope(at(x), dims, traditional, base_or_none, scale, offset, table));
  });
}

int32_t shim_sdpa(
    int32_t queries,
    int32_t keys,
    int32_t values,
    float scale,
    bool causal,
    int32_t mask,
    int32_t sinks) {
  return guarded([=] {
    const char* mode = causal ? "causal" : mask ? "array" : "";
    return add(mx::fast::scaled_dot_product_attention(
        at(queries), at(keys), at(values), scale, mode, option_of(mask), option_of(sinks)));
  });
}

int32_t shim_random_key(int32_t high, int32_t low) {
  return guarded([=] {
    return add(mx::random::key(uint64_t(uint32_t(high)) << 32 | uint32_t(low)));
  });
}

int32_t shim_random_split(int32_t key, int32_t count) {
  return guarded([=] { return add(mx::random::split(at(key), count)); });
}

int32_t shim_random_categorical(int32_t logits, int32_t axis, int32_t key) {
  return guarded([=] { return add(mx::random::categorical(at(logits), axis, at(key))); });
}

int32_t shim_random_uniform(
    double low, double high, const int32_t* shape, int32_t ndim, int32_t type, int32_t key) {
  return guarded([=] {
    const mx::Dtype dtype = dtype_of(type);
    return add(mx::random::uniform(
        mx::array(low, dtype), mx::array(high, dtype), shape_of(shape, ndim), dtype, at(key)));
  });
}

int32_t shim_random_normal(
    double mean, double deviation, const int32_t* shape, int32_t ndim, int32_t type, int32_t key) {
  return guarded([=] {
    return add(mx::random::normal(
        shape_of(shape, ndim), dtype_of(type), float(mean), float(deviation), at(key)));
  });
}

int32_t shim_random_bernoulli(
    int32_t p, double number, const int32_t* shape, int32_t ndim, int32_t key) {
  return guarded([=] {
    const mx::array chance = p ? at(p) : mx::array(float(number));
    if (ndim < 0) return add(mx::random::bernoulli(chance, at(key)));
    return add(mx::random::bernoulli(chance, shape_of(shape, ndim), at(key)));
  });
}
