// A quantised matrix as MLX stores it, and its product written down as plainly as linear.h says it.
#pragma once
#include <algorithm>
#include <cmath>
#include <utility>

#include "../linear.h"
#include "testing.h"

namespace exo::kernels::testing {

/** A scale as its type stores it. */
inline void put_typed(Dtype dtype, std::vector<uint8_t>& bytes, size_t index, float value) {
  uint8_t* at = bytes.data() + index * dtype_bytes(dtype);
  const uint16_t half = dtype == Dtype::f16 ? f32_to_f16(value) : f32_to_bf16(value);
  dtype == Dtype::f32 ? memcpy(at, &value, 4) : memcpy(at, &half, 2);
}

inline float get_typed(Dtype dtype, const std::vector<uint8_t>& bytes, size_t index) {
  const uint8_t* at = bytes.data() + index * dtype_bytes(dtype);
  if (dtype == Dtype::f32) {
    float value;
    memcpy(&value, at, 4);
    return value;
  }
  const uint16_t half = uint16_t(at[0] | at[1] << 8);
  return dtype == Dtype::f16 ? f16_to_f32(half) : bf16_to_f32(half);
}

/** A random matrix. Bits lie in a stream, lowest first, each row from a whole byte on. */
struct Quantized {
  MatrixSpec spec;
  std::vector<uint8_t> words, scales, biases;

  Quantized(const MatrixSpec& shape, uint32_t seed) : spec(shape) {
    Noise noise(seed);
    words.resize(size_t(spec.outputs) * row_bytes());
    for (uint8_t& byte : words) byte = uint8_t(noise.bits() >> 13);
    const size_t groups = size_t(spec.outputs) * size_t(group_count());
    scales.resize(groups * dtype_bytes(spec.scales));
    biases.resize(groups * dtype_bytes(spec.scales));
    for (size_t i = 0; i < groups; i++) {
      put_typed(spec.scales, scales, i, noise.uniform() * 0.01f);
      put_typed(spec.scales, biases, i, noise.uniform() * 0.1f);
    }
  }

  int group_count() const { return spec.inputs / spec.group; }
  size_t row_bytes() const { return size_t(spec.inputs) * size_t(spec.bits) / 8; }
  float scale(int n, int group) const {
    return get_typed(spec.scales, scales, size_t(n) * size_t(group_count()) + size_t(group));
  }
  float bias(int n, int group) const {
    return get_typed(spec.scales, biases, size_t(n) * size_t(group_count()) + size_t(group));
  }
  int value(int n, int k) const {
    int result = 0;
    for (int bit = 0; bit < spec.bits; bit++) {
      const size_t at = size_t(k) * size_t(spec.bits) + size_t(bit);
      result |= (words[size_t(n) * row_bytes() + at / 8] >> (at % 8) & 1) << bit;
    }
    return result;
  }
  double exact(int n, int k) const {
    return double(scale(n, k / spec.group)) * value(n, k) + double(bias(n, k / spec.group));
  }
  float dequantized(int n, int k) const {
    return std::fmaf(scale(n, k / spec.group), float(value(n, k)), bias(n, k / spec.group));
  }

  void pack_rows(int begin, int end, uint8_t* dst) const {
    const size_t groups = size_t(begin) * size_t(group_count()) * dtype_bytes(spec.scales);
    const AffineRows rows{words.data() + size_t(begin) * row_bytes(), scales.data() + groups,
                          biases.data() + groups};
    pack_affine(spec, rows, begin, end, dst);
  }
  Bytes pack() const {
    Bytes packed(packed_bytes(spec));
    pack_rows(0, spec.outputs, packed.data());
    return packed;
  }

  /** y [rows, outputs], by the arithmetic of linear.h. */
  std::vector<float> reference(const std::vector<float>& x, int rows) const {
    std::vector<float> y;
    for (int row = 0; row < rows; row++) {
      const float* values = x.data() + size_t(row) * size_t(spec.inputs);
      for (int n = 0; n < spec.outputs; n++) y.push_back(output(values, n));
    }
    return y;
  }

 private:
  float output(const float* x, int n) const {
    float acc = 0;
    for (int first = 0; first < spec.inputs; first += ACTIVATION_SPAN) {
      const int end = std::min(first + ACTIVATION_SPAN, spec.inputs);
      float peak = 0;
      bool finite = true;
      for (int k = first; k < end; k++) {
        finite = finite && std::isfinite(x[k]);
        peak = std::fmax(peak, std::fabs(x[k]));
      }
      const bool counts = finite && peak >= 0x1p-100f;
      const float step = counts ? peak / ACTIVATION_MAX : finite ? 0 : NAN;
      acc = std::fmaf(step, term(x, n, first, end, counts ? ACTIVATION_MAX / peak : 0), acc);
    }
    return acc;
  }

  /** Inputs first..end-1 of a span, in its steps; an inverse of 0 makes them zeros. */
  float term(const float* x, int n, int first, int end, float inverse) const {
    float term = 0;
    for (int k = first; k < end; k += spec.group) {
      int32_t sum = 0, qsum = 0;
      for (int i = k; i < k + spec.group; i++) {
        const int32_t q = inverse == 0 ? 0 : int32_t(std::nearbyint(x[i] * inverse));
        qsum += q;
        sum += q * value(n, i);
      }
      const float offset = std::fmaf(bias(n, k / spec.group), float(qsum), term);
      term = std::fmaf(scale(n, k / spec.group), float(sum), offset);
    }
    return term;
  }
};

}  // namespace exo::kernels::testing
