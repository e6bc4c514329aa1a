// A chunk of a quantised cache. Keys and values are made f32 a strip at a time, once for all query
// vectors of an item, and then go the way of an f32 cache: the bits are those that such a cache
// with the same numbers would give.
#pragma once
#include "attention_chunk_impl.h"

namespace exo::kernels::EXO_ISA {

/** Floats of a strip: near enough to be read again by each tile. */
constexpr int STRIP_FLOATS = KV_BLOCK * HEAD_DIM_MAX;
/** Most positions of a strip; fewer leave the tiles' registers without work. */
constexpr int STRIP_POSITIONS = 64;

EXO_INLINE int strip_positions(int dim) {
  return STRIP_POSITIONS * dim <= STRIP_FLOATS ? STRIP_POSITIONS : KV_BLOCK;
}

/** What the vectors of an item and of its tiles see of a chunk. */
struct ItemRanges {
  Range vectors[ATTENTION_ITEM];  // By tile, TILE for each.
  Range tiles[ATTENTION_ITEM / TILE];
  Range all;
};

/** Reads a cache of BITS. A thread's memory for it, on its stack: some 210 KiB at most. */
template <int BITS>
struct QuantizedChunks {
  alignas(64) float strip[STRIP_FLOATS];
  alignas(64) float scores[ATTENTION_ITEM * ATTENTION_CHUNK];
  alignas(64) float out[ATTENTION_ITEM * HEAD_DIM_MAX];
  float largest[ATTENTION_ITEM], sum[ATTENTION_ITEM];
  ItemRanges ranges;  // Here, since GCC 12 takes such an array on the stack to be aligned.
};

EXO_INLINE Range overlap(Range a, Range b) {
  const Range both{a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
  return both.begin < both.end ? both : Range{0, 0};
}

static void find_ranges(const AttentionArgs& args, const AttentionItem& item,
                        const QueryTile* tiles, int tile_count, int base, ItemRanges* ranges) {
  const int group = args.heads / args.kv.kv_heads;
  const auto widen = [](Range* range, Range by) {
    if (by.end == 0) return;
    if (by.begin < range->begin) range->begin = by.begin;
    if (by.end > range->end) range->end = by.end;
  };
  ranges->all = {ATTENTION_CHUNK, 0};
  for (int t = 0; t < tile_count; t++) {
    ranges->tiles[t] = {ATTENTION_CHUNK, 0};
    for (int i = 0; i < tiles[t].count; i++) {
      const Range seen = visible(args, *item.sequence, (tiles[t].first + i) / group, base);
      ranges->vectors[t * TILE + i] = seen;
      widen(&ranges->tiles[t], seen);
    }
    widen(&ranges->all, ranges->tiles[t]);
  }
}

/** The head's part of the block that holds a position of the chunk. */
EXO_INLINE HeadParts parts_at(const AttentionArgs& args, const AttentionItem& item, int position) {
  const uint8_t* block = item.sequence->blocks[position / KV_BLOCK];
  return head_parts(args.kv, const_cast<uint8_t*>(block), item.kv_head);
}

/** Scores of all tiles. */
template <int BITS>
static void score_item(const AttentionArgs& args, const AttentionItem& item,
                       const QueryTile* tiles, int tile_count, int base, const ItemRanges& ranges,
                       QuantizedChunks<BITS>& scratch) {
  const int dim = args.kv.key_dim, strip = strip_positions(dim);
  const float* keys[ATTENTION_CHUNK / LANES];
  for (int from = ranges.all.begin / strip * strip; from < ranges.all.end; from += strip) {
    const Range seen = overlap(ranges.all, {from, from + strip});
    for (int at = seen.begin / LANES; at * LANES < seen.end; at++) {
      float* to = scratch.strip + (at * LANES - from) * dim;
      keys[at] = to;
      const HeadParts head = parts_at(args, item, base + at * LANES);
      expand_keys<BITS>(args.kv, head, at % (KV_BLOCK / LANES), to);
    }
    for (int t = 0; t < tile_count; t++) {
      const Range own = overlap(ranges.tiles[t], seen);
      if (own.end == 0) continue;
      with_tile(padded(tiles[t].count), [&]<int Q>() {
        score<Q>(tiles[t].q, keys, dim, own.begin / LANES, (own.end + LANES - 1) / LANES,
                 scratch.scores + size_t(t) * TILE * ATTENTION_CHUNK);
      });
    }
  }
}

/** Sums of values for all tiles. */
template <int BITS>
static void weigh_item(const AttentionArgs& args, const AttentionItem& item,
                       const QueryTile* tiles, int tile_count, int base, const ItemRanges& ranges,
                       QuantizedChunks<BITS>& scratch) {
  const int dim = args.kv.value_dim, strip = strip_positions(dim);
  const float* values[ATTENTION_CHUNK / KV_BLOCK];
  for (int from = ranges.all.begin / strip * strip; from < ranges.all.end; from += strip) {
    const Range seen = overlap(ranges.all, {from, from + strip});
    for (int b = seen.begin / KV_BLOCK; b * KV_BLOCK < seen.end; b++) {
      values[b] = scratch.strip + (b * KV_BLOCK - from) * dim;
      const int at = b * KV_BLOCK;
      const Range own = overlap(seen, {at, at + KV_BLOCK});
      expand_values<BITS>(args.kv, parts_at(args, item, base + at), own.begin - at, own.end - at,
                          scratch.strip + (own.begin - from) * dim);
    }
    for (int t = 0; t < tile_count; t++) {
      if (overlap(ranges.tiles[t], seen).end == 0) continue;
      Range own[TILE];
      for (int i = 0; i < tiles[t].count; i++) {
        own[i] = overlap(ranges.vectors[t * TILE + i], seen);
      }
      weigh_tile(scratch.scores + size_t(t) * TILE * ATTENTION_CHUNK, own, tiles[t].count, values,
                 dim, scratch.out + size_t(t) * TILE * dim);
    }
  }
}

/** One chunk for all tiles of an item, combined into `into`. */
template <int BITS>
static void attend(const AttentionArgs& args, const AttentionItem& item, const QueryTile* tiles,
                   int tile_count, int chunk, QuantizedChunks<BITS>& scratch,
                   const Partial& into) {
  const int base = chunk * ATTENTION_CHUNK, dim = args.kv.value_dim;
  ItemRanges& ranges = scratch.ranges;
  find_ranges(args, item, tiles, tile_count, base, &ranges);
  if (ranges.all.end == 0) return;
  score_item<BITS>(args, item, tiles, tile_count, base, ranges, scratch);
  for (int t = 0; t < tile_count; t++) {
    for (int i = 0; i < tiles[t].count; i++) {
      const int at = t * TILE + i;
      scratch.largest[at] = scratch.sum[at] = 0;
      if (ranges.vectors[at].end == 0) continue;
      weights_of(scratch.scores + size_t(at) * ATTENTION_CHUNK, ranges.vectors[at], args.softcap,
                 scratch.largest + at, scratch.sum + at);
    }
  }
  for (int t = 0; t < tile_count; t++) {
    float* out = scratch.out + size_t(t) * TILE * dim;
    for (int i = 0; i < padded(tiles[t].count) * dim; i += LANES) store_lanes(out + i, lanes(0));
  }
  weigh_item<BITS>(args, item, tiles, tile_count, base, ranges, scratch);
  const Partial part{scratch.largest, scratch.sum, scratch.out};
  for (int i = 0; i < item.count; i++) {
    combine(partial_at(into, i, dim), partial_at(part, i, dim), dim);
  }
}

}  // namespace exo::kernels::EXO_ISA
