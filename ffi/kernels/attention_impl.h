// See attention.h.
#pragma once
#include "attention_quantized_impl.h"

namespace exo::kernels::EXO_ISA {

/** Divides by the sum of weights, the sink's included, and writes the row's head. */
EXO_INLINE void finish(const AttentionArgs& args, const AttentionItem& item, int vector,
                       const Partial& state) {
  const int group = args.heads / args.kv.kv_heads, dim = args.kv.value_dim;
  const int head = item.kv_head * group + vector % group;
  float sum = *state.sum, factor = 1;
  if (args.sinks != nullptr) {
    const float sink = args.sinks[head];
    const float largest = *state.largest > sink ? *state.largest : sink;
    factor = weight_of(*state.largest - largest);
    sum = __builtin_fmaf(sum, factor, weight_of(sink - largest));
  }
  const Lanes scale = lanes(factor / sum);
  float* out = row_of(args.out, item.sequence->first_row + vector / group) + size_t(head) * dim;
  for (int d = 0; d < dim; d += LANES) store_lanes(out + d, load_lanes(state.out + d) * scale);
}

/** Scales the vectors' queries and lays them out as a tile wants them. */
EXO_INLINE void pack_queries(const AttentionArgs& args, const AttentionItem& item, int first,
                             int count, float* packed) {
  const int group = args.heads / args.kv.kv_heads, dim = args.kv.key_dim, size = padded(count);
  const float* rows[TILE];
  for (int i = 0; i < size; i++) {
    const int vector = first + (i < count ? i : 0);
    const int head = item.kv_head * group + vector % group;
    rows[i] = row_of(args.q, item.sequence->first_row + vector / group) + size_t(head) * dim;
  }
  with_tile(size, [&]<int Q>() {
    for (int d = 0; d < dim; d++) {
      EXO_UNROLL for (int i = 0; i < Q; i++) packed[d * Q + i] = rows[i][d] * args.scale;
    }
  });
  // As the keys are.
  if (is_quantized(args.kv.dtype)) turn(packed, dim, size, true);
}

/** An item's tiles, packed into `packed` ([ATTENTION_ITEM * HEAD_DIM_MAX]); returns how many. */
EXO_INLINE int make_tiles(const AttentionArgs& args, const AttentionItem& item, float* packed,
                          QueryTile* tiles) {
  int count = 0;
  for (int at = 0; at < item.count; at += TILE, count++) {
    const int left = item.count - at < TILE ? item.count - at : TILE;
    tiles[count] = {item.first + at, left, packed};
    pack_queries(args, item, item.first + at, left, packed);
    packed += size_t(padded(left)) * args.kv.key_dim;
  }
  return count;
}

/** Memory of one thread, on its stack: some 200 KiB, of which a head of 64 touches 25. */
struct AttentionScratch {
  alignas(64) float packed[ATTENTION_ITEM * HEAD_DIM_MAX];
  alignas(64) float out[ATTENTION_ITEM * HEAD_DIM_MAX];
  float largest[ATTENTION_ITEM], sum[ATTENTION_ITEM];
};

/** `Chunks` reads a cache of one kind: it is PlainChunks or QuantizedChunks. */
template <class Chunks>
static __attribute__((noinline)) void attention_row_items(const AttentionArgs& args, int begin,
                                                          int end) {
  AttentionScratch scratch;
  Chunks chunks;
  const Partial state{scratch.largest, scratch.sum, scratch.out};
  for (int index = begin; index < end; index++) {
    const AttentionItem item = attention_item(args, index);
    QueryTile tiles[ATTENTION_ITEM / TILE];
    const int count = make_tiles(args, item, scratch.packed, tiles);
    for (int i = 0; i < item.count; i++) scratch.sum[i] = 0;
    // All tiles of a chunk before the next chunk, so that its keys are still near.
    for (int chunk = item.chunk_begin; chunk < item.chunk_end; chunk++) {
      attend(args, item, tiles, count, chunk, chunks, state);
    }
    for (int i = 0; i < item.count; i++) {
      finish(args, item, item.first + i, partial_at(state, i, args.kv.value_dim));
    }
  }
}

static void attention_rows(const AttentionArgs& args, int begin, int end) {
  switch (args.kv.dtype) {
    case KvDtype::f32: return attention_row_items<PlainChunks<float>>(args, begin, end);
    case KvDtype::f16: return attention_row_items<PlainChunks<uint16_t>>(args, begin, end);
    case KvDtype::q8: return attention_row_items<QuantizedChunks<8>>(args, begin, end);
    case KvDtype::q4: return attention_row_items<QuantizedChunks<4>>(args, begin, end);
  }
}

/** Where a part's results lie: outs, then largest scores, then sums. */
EXO_INLINE Partial partial_of(const AttentionArgs& args, int count, float* at) {
  float* largest = at + size_t(count) * args.kv.value_dim;
  return {largest, largest + count, at};
}

template <class Chunks>
static __attribute__((noinline)) void attention_chunk_parts(const AttentionArgs& args,
                                                            float* partials, int begin, int end) {
  alignas(64) float packed[ATTENTION_ITEM * HEAD_DIM_MAX];
  Chunks chunks;
  const size_t stride = attention_partial_stride(args);
  for (int index = begin; index < end; index++) {
    const AttentionItem item = attention_item_of_part(args, index);
    const Partial into = partial_of(args, item.count, partials + size_t(index) * stride);
    QueryTile tiles[ATTENTION_ITEM / TILE];
    const int count = make_tiles(args, item, packed, tiles);
    for (int i = 0; i < item.count; i++) into.sum[i] = 0;
    const int chunk = item.chunk_begin + index - item.first_part;
    attend(args, item, tiles, count, chunk, chunks, into);
  }
}

static void attention_chunks(const AttentionArgs& args, float* partials, int begin, int end) {
  const auto run = [&](auto parts) { parts(args, partials, begin, end); };
  switch (args.kv.dtype) {
    case KvDtype::f32: return run(attention_chunk_parts<PlainChunks<float>>);
    case KvDtype::f16: return run(attention_chunk_parts<PlainChunks<uint16_t>>);
    case KvDtype::q8: return run(attention_chunk_parts<QuantizedChunks<8>>);
    case KvDtype::q4: return run(attention_chunk_parts<QuantizedChunks<4>>);
  }
}

static void attention_combine(const AttentionArgs& args, const float* partials, int begin,
                              int end) {
  alignas(64) float out[HEAD_DIM_MAX];
  float largest = 0, sum = 0;
  const Partial state{&largest, &sum, out};
  const size_t stride = attention_partial_stride(args);
  const int dim = args.kv.value_dim;
  for (int index = begin; index < end; index++) {
    const AttentionItem item = attention_item(args, index);
    for (int i = 0; i < item.count; i++) {
      sum = 0;
      for (int c = 0; c < item.chunk_end - item.chunk_begin; c++) {
        float* at = const_cast<float*>(partials) + size_t(item.first_part + c) * stride;
        combine(state, partial_at(partial_of(args, item.count, at), i, dim), dim);
      }
      finish(args, item, item.first + i, state);
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
