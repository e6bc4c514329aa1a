// One chunk of keys and values. See attention.h.
#pragma once
#include "attention_tiles.h"
#include "rows_math.h"

namespace exo::kernels::EXO_ISA {

/** Up to TILE query vectors of one KV head and sequence. */
struct QueryTile {
  int first;       // As in AttentionItem.
  int count;
  const float* q;  // [key_dim][padded(count)], scaled.
};

/** What a chunk, or several, gave for each vector. A sum of 0: no key was seen. */
struct Partial {
  float* largest;  // [vectors]
  float* sum;      // [vectors]
  float* out;      // [vectors][value_dim]
};

EXO_INLINE Partial partial_at(const Partial& all, int vector, int dim) {
  return {all.largest + vector, all.sum + vector, all.out + size_t(vector) * dim};
}

/** Keys begin..end-1, counted from the start of a chunk. */
struct Range {
  int begin;
  int end;
};

EXO_INLINE Range visible(const AttentionArgs& args, const KvSequence& sequence, int row, int base) {
  const int end = sequence.position + row + 1;
  const int begin = args.window > 0 && end > args.window ? end - args.window : 0;
  const Range range{begin > base ? begin - base : 0,
                    end - base < ATTENTION_CHUNK ? end - base : ATTENTION_CHUNK};
  return range.begin < range.end ? range : Range{0, 0};
}

/** The scores of 16 positions; those outside the range become -Inf. */
EXO_INLINE Lanes masked(Lanes scores, Range range, int at) {
  if (at >= range.begin && at + LANES <= range.end) return scores;
  return select(lanes_between(range.begin - at, range.end - at), scores,
                lanes(-__builtin_inff()));
}

/** Scores become weights within the range; gives the largest score and the sum of weights. */
EXO_INLINE void weights_of(float* scores, Range range, float softcap, float* largest, float* sum) {
  const int begin = range.begin / LANES * LANES, end = (range.end + LANES - 1) / LANES * LANES;
  if (softcap > 0) {
    for (int p = begin; p < end; p += LANES) {
      const Lanes capped = tanh(load_lanes(scores + p) / lanes(softcap));
      store_lanes(scores + p, capped * lanes(softcap));
    }
  }
  const int last = end - LANES;
  store_lanes(scores + begin, masked(load_lanes(scores + begin), range, begin));
  if (last > begin) store_lanes(scores + last, masked(load_lanes(scores + last), range, last));
  Lanes most = lanes(-__builtin_inff());
  for (int p = begin; p < end; p += LANES) most = max(load_lanes(scores + p), most);
  *largest = max_lanes(most);
  const Lanes shift = lanes(*largest);
  Lanes total = lanes(0);
  for (int p = begin; p < end; p += LANES) {
    const Lanes weights = exp_weight(load_lanes(scores + p) - shift);
    store_lanes(scores + p, weights);
    total = total + weights;
  }
  *sum = sum_lanes(total);
}

/** Where a chunk's keys and values lie, from the first visible block to the last. */
template <class E>
struct ChunkPointers {
  const E* keys[ATTENTION_CHUNK / LANES];
  const E* values[ATTENTION_CHUNK / KV_BLOCK];
};

template <class E>
EXO_INLINE void find_chunk(const AttentionArgs& args, const KvSequence& sequence, int kv_head,
                           int base, Range range, ChunkPointers<E>* chunk) {
  for (int b = range.begin / KV_BLOCK; b * KV_BLOCK < range.end; b++) {
    uint8_t* block = const_cast<uint8_t*>(sequence.blocks[base / KV_BLOCK + b]);
    chunk->keys[2 * b] = keys_of<E>(args.kv, block, kv_head, 0);
    chunk->keys[2 * b + 1] = keys_of<E>(args.kv, block, kv_head, 1);
    chunk->values[b] = values_of<E>(args.kv, block, kv_head);
  }
}

/** Sums of values for one tile, whose vectors may see different keys. */
template <class E>
EXO_INLINE void weigh_tile(const float* weights, const Range* ranges, int count,
                           const E* const* values, int dim, float* out) {
  Range common = ranges[0];
  for (int i = 1; i < count; i++) {
    if (ranges[i].begin > common.begin) common.begin = ranges[i].begin;
    if (ranges[i].end < common.end) common.end = ranges[i].end;
  }
  if (common.begin >= common.end) common = {ATTENTION_CHUNK, ATTENTION_CHUNK};
  const auto alone = [&](int i, int begin, int end) {
    if (begin >= end) return;
    weigh<1>(weights + i * ATTENTION_CHUNK, values, dim, begin, end, out + size_t(i) * dim);
  };
  const auto least = [](int a, int b) { return a < b ? a : b; };
  for (int i = 0; i < count; i++) alone(i, ranges[i].begin, least(ranges[i].end, common.begin));
  if (common.begin < common.end) {
    with_tile(padded(count), [&]<int Q>() {
      weigh<Q>(weights, values, dim, common.begin, common.end, out);
    });
  }
  for (int i = 0; i < count; i++) alone(i, common.end, ranges[i].end);
}

/** One chunk for one tile; `partial.out` has room for padded(count) vectors. */
template <class E>
static void tile_chunk(const AttentionArgs& args, const AttentionItem& item, const QueryTile& tile,
                       int chunk, const Partial& partial) {
  const int base = chunk * ATTENTION_CHUNK, group = args.heads / args.kv.kv_heads;
  const int dim = args.kv.value_dim, size = padded(tile.count);
  Range ranges[TILE], all{ATTENTION_CHUNK, 0};
  for (int i = 0; i < tile.count; i++) {
    ranges[i] = visible(args, *item.sequence, (tile.first + i) / group, base);
    partial.largest[i] = partial.sum[i] = 0;
    if (ranges[i].end == 0) continue;
    if (ranges[i].begin < all.begin) all.begin = ranges[i].begin;
    if (ranges[i].end > all.end) all.end = ranges[i].end;
  }
  if (all.end == 0) return;
  ChunkPointers<E> pointers;
  find_chunk(args, *item.sequence, item.kv_head, base, all, &pointers);
  alignas(64) float scores[TILE * ATTENTION_CHUNK];
  with_tile(size, [&]<int Q>() {
    score<Q>(tile.q, pointers.keys, args.kv.key_dim, all.begin / LANES,
             (all.end + LANES - 1) / LANES, scores);
  });
  for (int i = 0; i < tile.count; i++) {
    if (ranges[i].end == 0) continue;
    weights_of(scores + i * ATTENTION_CHUNK, ranges[i], args.softcap, partial.largest + i,
               partial.sum + i);
  }
  // Vectors of the padding take part with what is there; nobody reads their sums.
  for (int i = 0; i < size * dim; i += LANES) store_lanes(partial.out + i, lanes(0));
  weigh_tile(scores, ranges, tile.count, pointers.values, dim, partial.out);
}

EXO_INLINE float weight_of(float difference) {
  float out[LANES];
  store_lanes(out, exp_weight(lanes(difference)));
  return out[0];
}

/** state = state and then part. */
EXO_INLINE void combine(const Partial& state, const Partial& part, int dim) {
  if (*part.sum == 0) return;
  if (*state.sum == 0) {
    *state.largest = *part.largest;
    *state.sum = *part.sum;
    for (int d = 0; d < dim; d += LANES) store_lanes(state.out + d, load_lanes(part.out + d));
    return;
  }
  const float largest = *state.largest > *part.largest ? *state.largest : *part.largest;
  const float a = weight_of(*state.largest - largest), b = weight_of(*part.largest - largest);
  *state.largest = largest;
  *state.sum = __builtin_fmaf(*state.sum, a, *part.sum * b);
  for (int d = 0; d < dim; d += LANES) {
    const Lanes scaled = load_lanes(part.out + d) * lanes(b);
    store_lanes(state.out + d, fma(load_lanes(state.out + d), lanes(a), scaled));
  }
}

/** Reads a cache whose elements are E: one tile after the other. A thread's memory for it. */
template <class E>
struct PlainChunks {
  alignas(64) float out[TILE * HEAD_DIM_MAX];
  float largest[TILE], sum[TILE];
};

/** One chunk for all tiles of an item, combined into `into`. */
template <class E>
EXO_INLINE void attend(const AttentionArgs& args, const AttentionItem& item,
                       const QueryTile* tiles, int tile_count, int chunk, PlainChunks<E>& chunks,
                       const Partial& into) {
  const Partial part{chunks.largest, chunks.sum, chunks.out};
  const int dim = args.kv.value_dim;
  for (int t = 0; t < tile_count; t++) {
    tile_chunk<E>(args, item, tiles[t], chunk, part);
    for (int i = 0; i < tiles[t].count; i++) {
      const int vector = tiles[t].first - item.first + i;
      combine(partial_at(into, vector, dim), partial_at(part, i, dim), dim);
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
