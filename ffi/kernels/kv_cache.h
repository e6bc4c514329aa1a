// A paged KV cache: blocks of KV_BLOCK positions of one layer and one sequence.
//
// A block of f32 or f16 holds its keys as [kv_heads][KV_BLOCK / 16][key_dim][16 positions], so that
// lanes are positions, then its values as [kv_heads][KV_BLOCK][value_dim], so that lanes are
// dimensions. The caller owns the blocks' memory and each sequence's table of pointers to them;
// sequences may share blocks of a common prefix. A block begins at a multiple of KV_ALIGN bytes.
//
// A quantised cache keeps codes of 8 or 4 bits, and for each position, KV head and group of
// KV_GROUP dimensions (the last group has those that are left) two f16: an element is read as
// fma(code, scale, bias). A position is quantised alone when it is appended, so that what is read
// does not depend on what came with it. Keys are turned first, as queries are: a Hadamard matrix
// spreads the few large dimensions that keys have over their group, whose steps are smaller then
// (arXiv:2404.00456). A block holds, for each KV head in turn:
//   keys    [KV_BLOCK / 16][key_dim][16 positions] of 8 bits, or [KV_BLOCK / 16]
//           [ceil(key_dim / 2)][16 positions] bytes with dimension 2 i low and 2 i + 1 high;
//           then [KV_BLOCK / 16][groups][scale, bias][16 positions]
//   values  [KV_BLOCK][value_dim] of 8 bits, or [KV_BLOCK][ceil(value_dim / 32)][16] bytes with
//           dimension 32 i + j low and 32 i + 16 + j high; then [KV_BLOCK][groups][scale, bias]
#pragma once
#include "rows_view.h"

namespace exo::kernels {

/** Positions in a block. */
constexpr int KV_BLOCK = 32;
/** Alignment of a block, in bytes. */
constexpr size_t KV_ALIGN = 64;
/** Largest key_dim and value_dim. */
constexpr int HEAD_DIM_MAX = 512;
/** Dimensions that share a scale and a bias in a quantised cache. */
constexpr int KV_GROUP = 64;

/** What a cache keeps of a number. */
enum class KvDtype : uint8_t { f32, f16, q8, q4 };

/** What a layer caches. */
struct KvShape {
  int kv_heads = 0;
  int key_dim = 0;    // 1 to HEAD_DIM_MAX.
  int value_dim = 0;  // A multiple of 16, at most HEAD_DIM_MAX.
  KvDtype dtype = KvDtype::f32;
};

/** Whether it keeps codes. */
EXO_INLINE bool is_quantized(KvDtype dtype) {
  return dtype == KvDtype::q8 || dtype == KvDtype::q4;
}

/** Groups of a head's dimensions. */
EXO_INLINE int kv_groups(int dim) { return (dim + KV_GROUP - 1) / KV_GROUP; }

/** Bytes of the parts of one KV head of a quantised block. */
struct KvHeadBytes {
  size_t key_codes;    // Of 16 positions.
  size_t key_scales;   // Of 16 positions, biases included.
  size_t value_codes;  // Of one position.
  size_t value_scales;

  size_t keys() const { return KV_BLOCK / 16 * (key_codes + key_scales); }
  size_t values() const { return KV_BLOCK * (value_codes + value_scales); }
};

/** For q8 and q4. */
EXO_INLINE KvHeadBytes kv_head_bytes(const KvShape& shape) {
  const size_t key_dim = size_t(shape.key_dim), value_dim = size_t(shape.value_dim);
  const bool is_q8 = shape.dtype == KvDtype::q8;
  return {(is_q8 ? key_dim : (key_dim + 1) / 2) * 16, size_t(kv_groups(shape.key_dim)) * 16 * 4,
          is_q8 ? value_dim : (value_dim + 31) / 32 * 16, size_t(kv_groups(shape.value_dim)) * 4};
}

/** Bytes of a block. */
EXO_INLINE size_t kv_block_bytes(const KvShape& shape) {
  if (is_quantized(shape.dtype)) {
    const KvHeadBytes head = kv_head_bytes(shape);
    return size_t(shape.kv_heads) * (head.keys() + head.values());
  }
  return size_t(shape.kv_heads) * KV_BLOCK * size_t(shape.key_dim + shape.value_dim) *
         (shape.dtype == KvDtype::f32 ? 4 : 2);
}

/**
 * kv_append: row i of k [kv_heads * key_dim] and v [kv_heads * value_dim], rotary already applied,
 * goes to position + i, whose block must be there. An f16 cache rounds to nearest even. A quantised
 * one is off by half a scale at most; a group with NaN or Inf is read as NaN, and beyond ±65504,
 * where f16 ends, numbers (of keys: turned ones) stay at that.
 */
struct KvAppendArgs {
  KvShape shape;
  uint8_t* const* blocks = nullptr;  // Block b holds the positions from b * KV_BLOCK.
  int position = 0;                  // Of row 0.
  ConstRows k;
  ConstRows v;
};

}  // namespace exo::kernels
