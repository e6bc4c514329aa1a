// Rows of a packed matrix as f32, for embeddings. Part of linear_impl.h.
#pragma once
#include "linear.h"

namespace exo::kernels::EXO_ISA {

EXO_INLINE float load_scalar(Dtype dtype, const uint8_t* at, int index) {
  if (dtype == Dtype::f32) return load_one(at + size_t(index) * 4);
  uint16_t half;
  memcpy(&half, at + size_t(index) * 2, 2);
  return dtype == Dtype::f16 ? f16_to_f32(half) : bf16_to_f32(half);
}

static void embed(const MatrixSpec& spec, const uint8_t* packed, const int32_t* ids, int count,
                  float* y, size_t stride) {
  const int bits = packed_bits(spec.bits), per_word = 32 / bits;
  const size_t words_bytes = size_t(spec.group) / per_word * PANEL * 4;
  const size_t unit = dtype_bytes(spec.scales), record = group_bytes(spec);
  const uint32_t mask = (1u << bits) - 1;
  for (int i = 0; i < count; i++) {
    const int lane = ids[i] % PANEL;
    const uint8_t* at = packed + panel_bytes(spec) * size_t(ids[i] / PANEL);
    float* to = y + i * stride;
    for (int k = 0; k < spec.inputs; k += spec.group, at += record) {
      const float scale = load_scalar(spec.scales, at + words_bytes, lane);
      const float bias = load_scalar(spec.scales, at + words_bytes + PANEL * unit, lane);
      for (int word = 0; word < spec.group / per_word; word++) {
        uint32_t values = uint32_t(load_pair(at + (size_t(word) * PANEL + lane) * 4));
        for (int v = 0; v < per_word; v++, values >>= bits) {
          *to++ = __builtin_fmaf(scale, float(int32_t(values & mask)), bias);
        }
      }
    }
  }
}

static void dense_embed(const DenseSpec& spec, const uint8_t* packed, const int32_t* ids, int count,
                        float* y, size_t stride) {
  for (int i = 0; i < count; i++) {
    const uint8_t* panel = packed + panel_bytes(spec) * size_t(ids[i] / PANEL);
    const int lane = ids[i] % PANEL;
    const size_t step = PANEL * dtype_bytes(spec.dtype);
    for (int k = 0; k < spec.inputs; k++, panel += step) {
      y[i * stride + k] = load_scalar(spec.dtype, panel, lane);
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
