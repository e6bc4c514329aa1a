// A paged KV cache: blocks of KV_BLOCK positions of one layer and one sequence.
//
// A block holds its keys as [kv_heads][KV_BLOCK / 16][key_dim][16 positions], so that lanes are
// positions, then its values as [kv_heads][KV_BLOCK][value_dim], so that lanes are dimensions. The
// caller owns the blocks' memory and each sequence's table of pointers to them; sequences may share
// blocks of a common prefix. A block begins at a multiple of KV_ALIGN bytes.
#pragma once
#include "rows_view.h"

namespace exo::kernels {

/** Positions in a block. */
constexpr int KV_BLOCK = 32;
/** Alignment of a block, in bytes. */
constexpr size_t KV_ALIGN = 64;
/** Largest key_dim and value_dim. */
constexpr int HEAD_DIM_MAX = 512;

/** What a layer caches. */
struct KvShape {
  int kv_heads = 0;
  int key_dim = 0;           // 1 to HEAD_DIM_MAX.
  int value_dim = 0;         // A multiple of 16, at most HEAD_DIM_MAX.
  Dtype dtype = Dtype::f32;  // f32 or f16.
};

/** Bytes of a block. */
EXO_INLINE size_t kv_block_bytes(const KvShape& shape) {
  return size_t(shape.kv_heads) * KV_BLOCK * size_t(shape.key_dim + shape.value_dim) *
         dtype_bytes(shape.dtype);
}

/**
 * kv_append: row i of k [kv_heads * key_dim] and v [kv_heads * value_dim], rotary already applied,
 * goes to position + i, whose block must be there. An f16 cache rounds to nearest even.
 */
struct KvAppendArgs {
  KvShape shape;
  uint8_t* const* blocks = nullptr;  // Block b holds the positions from b * KV_BLOCK.
  int position = 0;                  // Of row 0.
  ConstRows k;
  ConstRows v;
};

}  // namespace exo::kernels
