// Products with quantised matrices, for any instruction set: include a simd_*.h, define TILE_ROWS
// (most rows of a block) and TILE_PARTS (vectors of outputs a tile is wide), then include this.
// Everything is static or in the namespace of the instruction set, and nothing comes from the
// standard library's templates: the linker must not mix code of different instruction sets.
#pragma once
#include "linear_output.h"

namespace exo::kernels::EXO_ISA {

/** Outputs of a tile. */
constexpr int TILE = TILE_PARTS * WIDTH;
static_assert(TILE % PANEL == 0 || PANEL % TILE == 0, "tiles and panels must nest");

constexpr int PARTS_PER_PANEL = PANEL < WIDTH * TILE_PARTS ? PANEL / WIDTH : TILE_PARTS;

/**
 * How far ahead of the products weights are fetched. Memory answers after some 100 ns, and the
 * processor's own guesses stop at each 4 KiB page: measured, 1.4 times as fast for one row.
 */
constexpr size_t PREFETCH_BYTES = 2048;

/** What a tile of rows x TILE outputs works on. */
struct TileWork {
  const uint8_t* weights[TILE_PARTS];  // Of each vector of outputs: its lanes in the first word.
  const uint8_t* x;                    // The block of rows.
  float* acc;                          // [rows][TILE], aligned; zeros at first.
  int groups;
  int groups_per_span;
  int words;         // Of a group.
  size_t record;     // Bytes of a group.
  size_t next_tile;  // Bytes between a panel's end and the next panel that its parts will read.
  Dtype scales;
};

EXO_INLINE int32_t load_pair(const uint8_t* at) {
  int32_t pair;
  memcpy(&pair, at, 4);
  return pair;
}

/** Lane of a tile's part in its panel. */
EXO_INLINE constexpr int part_lane(int part) { return part * WIDTH % PANEL; }

/** One word of every lane: its values, times those of each row, added to sums. */
template <int BITS, int ROWS>
EXO_INLINE void add_word(const uint8_t* const* weights, const uint8_t* x,
                         I (&sums)[ROWS][TILE_PARTS]) {
  constexpr int PER_WORD = 32 / BITS;
  const I mask = broadcast_i(((1 << BITS) - 1) * 0x10001);
  I words[TILE_PARTS];
  EXO_UNROLL
  for (int p = 0; p < TILE_PARTS; p++) words[p] = load_i(weights[p]);
  EXO_UNROLL
  for (int pair = 0; pair < PER_WORD / 2; pair++) {
    I values[TILE_PARTS];
    EXO_UNROLL
    for (int p = 0; p < TILE_PARTS; p++) values[p] = I(U(words[p]) >> (BITS * pair)) & mask;
    EXO_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const I row = broadcast_i(load_pair(x + (r * PER_WORD + pair * 2) * 2));
      EXO_UNROLL
      for (int p = 0; p < TILE_PARTS; p++) sums[r][p] = dot_pairs(sums[r][p], values[p], row);
    }
  }
}

/**
 * add_word() for one row of 4-bit values, where unpacking is most of the work: the upper nibble of
 * a byte stays where it is, 16 times too large, in sums of its own. 5 instructions instead of 7.
 */
EXO_INLINE void add_nibbles(const uint8_t* const* weights, const uint8_t* x, I (&sums)[TILE_PARTS],
                            I (&sums_times_16)[TILE_PARTS]) {
  const I low = broadcast_i(0x000f000f), high = broadcast_i(0x00f000f0);
  EXO_UNROLL
  for (int p = 0; p < TILE_PARTS; p++) {
    const I word = load_i(weights[p]);
    const I upper = I(U(word) >> 8);
    sums[p] = dot_pairs(sums[p], word & low, broadcast_i(load_pair(x)));
    sums_times_16[p] = dot_pairs(sums_times_16[p], word & high, broadcast_i(load_pair(x + 4)));
    sums[p] = dot_pairs(sums[p], upper & low, broadcast_i(load_pair(x + 8)));
    sums_times_16[p] = dot_pairs(sums_times_16[p], upper & high, broadcast_i(load_pair(x + 12)));
  }
}

/** Fetches a group PREFETCH_BYTES ahead: near the end of a panel, in that of the next tile. */
EXO_INLINE void prefetch_group(const TileWork& work, const uint8_t* const* weights, bool near_end) {
  EXO_UNROLL
  for (int p = 0; p < TILE_PARTS; p += PARTS_PER_PANEL) {
    const uint8_t* next = weights[p] + PREFETCH_BYTES + (near_end ? work.next_tile : 0);
    for (size_t at = 0; at < work.record; at += 64) __builtin_prefetch(next + at);
  }
}

/** Reads the scales and biases that follow a group's words, and moves on to the next group. */
EXO_INLINE void take_scales(Dtype dtype, const uint8_t* (&weights)[TILE_PARTS],
                            F (&scale)[TILE_PARTS], F (&bias)[TILE_PARTS]) {
  const int unit = dtype == Dtype::f32 ? 4 : 2;
  EXO_UNROLL
  for (int p = 0; p < TILE_PARTS; p++) {
    // Part p's words begin at its lane; its scales, maybe of a smaller type, at the same lane.
    const uint8_t* at = weights[p] - part_lane(p) * 4;
    scale[p] = load_typed(dtype, at, part_lane(p));
    bias[p] = load_typed(dtype, at + PANEL * unit, part_lane(p));
    weights[p] += 2 * PANEL * unit;
  }
}

/** Ends a span: its terms, times the steps at x, go into acc. */
template <int ROWS>
EXO_INLINE void add_span(const uint8_t* x, F (&terms)[ROWS][TILE_PARTS], float* acc) {
  EXO_UNROLL
  for (int r = 0; r < ROWS; r++) {
    const F step = broadcast(load_one(x + r * 4));
    EXO_UNROLL
    for (int p = 0; p < TILE_PARTS; p++) {
      float* at = acc + r * TILE + p * WIDTH;
      store(at, fma(step, terms[r][p], load(at)));
      terms[r][p] = zero();
    }
  }
}

/** All groups of a tile of ROWS rows. */
template <int BITS, int ROWS>
__attribute__((noinline)) static void quantized_tile(const TileWork& work) {
  constexpr int PER_WORD = 32 / BITS;
  constexpr bool NIBBLES = BITS == 4 && ROWS == 1;
  const int words = work.words;
  const int ahead = int(PREFETCH_BYTES / work.record);
  const uint8_t* weights[TILE_PARTS];
  EXO_UNROLL
  for (int p = 0; p < TILE_PARTS; p++) weights[p] = work.weights[p];
  const uint8_t* x = work.x;
  F terms[ROWS][TILE_PARTS] = {};  // Of a span.
  for (int group = 0, left = work.groups_per_span; group < work.groups; group++) {
    I sums[ROWS][TILE_PARTS] = {};
    prefetch_group(work, weights, group + ahead >= work.groups);
    I sums_times_16[TILE_PARTS] = {};
    for (int word = 0; word < words; word++) {
      if constexpr (NIBBLES) add_nibbles(weights, x, sums[0], sums_times_16);
      else add_word<BITS, ROWS>(weights, x, sums);
      EXO_UNROLL
      for (int p = 0; p < TILE_PARTS; p++) weights[p] += PANEL * 4;
      x += ROWS * PER_WORD * 2;
    }
    EXO_UNROLL
    for (int p = 0; NIBBLES && p < TILE_PARTS; p++) sums[0][p] += sums_times_16[p] >> 4;
    F scale[TILE_PARTS], bias[TILE_PARTS];
    take_scales(work.scales, weights, scale, bias);
    EXO_UNROLL
    for (int r = 0; r < ROWS; r++) {
      const F qsum = broadcast(load_one(x + (ROWS + r) * 4));
      EXO_UNROLL
      for (int p = 0; p < TILE_PARTS; p++) {
        terms[r][p] = fma(scale[p], to_float(sums[r][p]), fma(bias[p], qsum, terms[r][p]));
      }
    }
    if (--left == 0 || group + 1 == work.groups) {
      add_span<ROWS>(x, terms, work.acc);
      left = work.groups_per_span;
    }
    x += ROWS * 8;
  }
}

typedef void (*QuantizedTile)(const TileWork& work);

template <int BITS, int ROWS = TILE_ROWS>
static QuantizedTile quantized_tile_of(int rows) {
  if (rows == ROWS) return quantized_tile<BITS, ROWS>;
  if constexpr (ROWS > 1) return quantized_tile_of<BITS, ROWS - 1>(rows);
  return nullptr;
}

static QuantizedTile quantized_tile_for(int bits, int rows) {
  if (bits == 2) return quantized_tile_of<2>(rows);
  if (bits == 4) return quantized_tile_of<4>(rows);
  return quantized_tile_of<8>(rows);
}

/**
 * Where each vector of a tile at `column` begins. Panels beyond the last are replaced by the last,
 * computed in vain: no tile reads outside the matrix.
 */
EXO_INLINE void place_parts(const uint8_t* packed, size_t panel_size, int column, int outputs,
                            int lane_bytes, int parts, const uint8_t** at) {
  for (int p = 0; p < parts; p++) {
    int first = column + p * WIDTH;
    const int last = (panel_count(outputs) - 1) * PANEL + part_lane(p);
    if (first > last) first = last;
    at[p] = packed + panel_size * (first / PANEL) + size_t(first % PANEL) * lane_bytes;
  }
}

/** Fetches a single row at once: on most threads it comes from another one's cache. */
EXO_INLINE void prefetch_row(const uint8_t* x, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(x + at);
}

static void linear(const MatrixSpec& spec, const uint8_t* packed, const ArrangedRows& x,
                   const Part& part, const Output& output) {
  const int bits = packed_bits(spec.bits);
  alignas(64) float acc[TILE_ROWS * TILE];
  TileWork work;
  work.acc = acc;
  work.groups = spec.inputs / spec.group;
  work.groups_per_span = ACTIVATION_SPAN / spec.group;
  work.words = spec.group * bits / 32;
  work.scales = spec.scales;
  work.record = group_bytes(spec);
  work.next_tile = TILE > PANEL ? panel_bytes(spec) * (TILE / PANEL - 1) : 0;
  const int end = part.output_end < spec.outputs ? part.output_end : spec.outputs;
  if (x.rows == 1) prefetch_row(x.data, quantized_rows_offset(spec, 1));
  for (int column = part.output_begin; column < end; column += TILE) {
    place_parts(packed, panel_bytes(spec), column, spec.outputs, 4, TILE_PARTS, work.weights);
    const int count = end - column < TILE ? end - column : TILE;
    for (int block = part.block_begin; block < part.block_end; block++) {
      const int first = block_first_row(x.rows, x.blocks, block);
      const int rows = block_first_row(x.rows, x.blocks, block + 1) - first;
      work.x = x.data + quantized_rows_offset(spec, first);
      memset(acc, 0, size_t(rows) * TILE * sizeof(float));
      for (int at = 0; at < count; at += PANEL) prefetch_output(output, first, rows, column + at);
      quantized_tile_for(bits, rows)(work);
      write_tile(acc, TILE, first, rows, column, count, output);
    }
  }
}

}  // namespace exo::kernels::EXO_ISA

#include "linear_dense_impl.h"
#include "linear_embed_impl.h"
#include "linear_rows_impl.h"

namespace exo::kernels::EXO_ISA {

extern const LinearKernels LINEAR;
const LinearKernels LINEAR = {blocks_of,    blocks_of,    quantize_rows, linear,
                              embed,        arrange_rows, dense_linear,  dense_embed};

}  // namespace exo::kernels::EXO_ISA
