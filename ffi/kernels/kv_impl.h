// See kv_cache.h.
#pragma once
#include "kv_cache.h"
#include "kv_quantized_impl.h"
#include "rows_lanes.h"

namespace exo::kernels::EXO_ISA {

/** 16 elements of a cache as f32. */
EXO_INLINE F load_element(const float* p) { return load(p); }
EXO_INLINE F load_element(const uint16_t* p) { return load_f16(p); }

EXO_INLINE void store_element(float* p, F v) { store(p, v); }
EXO_INLINE void store_element(uint16_t* p, F v) { store_f16(p, v); }

EXO_INLINE float to_element(float x, const float*) { return x; }
EXO_INLINE uint16_t to_element(float x, const uint16_t*) { return f32_to_f16(x); }

/** The keys of 16 positions, [key_dim][16], of the half (0, 1) of a block. */
template <class E>
EXO_INLINE E* keys_of(const KvShape& shape, uint8_t* block, int head, int half) {
  return reinterpret_cast<E*>(block) +
         (size_t(head) * (KV_BLOCK / LANES) + half) * shape.key_dim * LANES;
}
/** The values of a block's positions, [KV_BLOCK][value_dim]. */
template <class E>
EXO_INLINE E* values_of(const KvShape& shape, uint8_t* block, int head) {
  return reinterpret_cast<E*>(block) + size_t(shape.kv_heads) * KV_BLOCK * shape.key_dim +
         size_t(head) * KV_BLOCK * shape.value_dim;
}

template <class E>
static void append_row(const KvAppendArgs& args, int position, const float* k, const float* v) {
  const KvShape& shape = args.shape;
  uint8_t* block = args.blocks[position / KV_BLOCK];
  const int at = position % KV_BLOCK;
  for (int head = 0; head < shape.kv_heads; head++) {
    E* keys = keys_of<E>(shape, block, head, at / LANES) + at % LANES;
    E* values = values_of<E>(shape, block, head) + size_t(at) * shape.value_dim;
    for (int d = 0; d < shape.key_dim; d++) keys[d * LANES] = to_element(k[d], keys);
    for (int d = 0; d < shape.value_dim; d += WIDTH) store_element(values + d, load(v + d));
    k += shape.key_dim;
    v += shape.value_dim;
  }
}

static void kv_append(const KvAppendArgs& args, int begin, int end) {
  for (int row = begin; row < end; row++) {
    const float *k = row_of(args.k, row), *v = row_of(args.v, row);
    const int position = args.position + row;
    switch (args.shape.dtype) {
      case KvDtype::f32: append_row<float>(args, position, k, v); break;
      case KvDtype::f16: append_row<uint16_t>(args, position, k, v); break;
      case KvDtype::q8: append_quantized_row<8>(args, position, k, v); break;
      case KvDtype::q4: append_quantized_row<4>(args, position, k, v); break;
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
