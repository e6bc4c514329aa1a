// The inner loop of linear_amx.cpp: tiles of activations times tiles of weights, group by group.
#pragma once
#include "linear_amx_rows.h"
#include "linear_output.h"

namespace exo::kernels::amx {

using namespace avx512;

/**
 * Panels that a block of rows meets in turn: the block stays in the first cache, and rows of the
 * output are written in pieces of four cache lines.
 */
constexpr int PANELS = 4;
constexpr int COLUMNS = PANELS * PANEL;

/** Groups of a panel, unpacked. */
struct Chunk {
  uint8_t* weights;
  int groups;
  bool is_first;  // Of its panel: there are no sums before it.
};

/** Bytes of a group of an unpacked chunk: its tiles, then scales and biases as f32. */
constexpr size_t unpacked_bytes(int group) {
  return size_t(group) * PANEL + 2 * PANEL * sizeof(float);
}

constexpr int SUMS_BYTES = ROWS * PANEL * 4;  // Of one tile of sums.

/**
 * 256 times each sum. By a shuffle, since shifts run where the products of floats do: near tile
 * instructions the processor has one unit for both.
 */
EXO_INLINE I times_256(I sums) {
  const __m512i order = _mm512_set4_epi32(0x0e0d0c80, 0x0a090880, 0x06050480, 0x02010080);
  return I(_mm512_shuffle_epi8(__m512i(sums), order));
}

/** A group's sums as tiles leave them in memory: of high bytes, then of low ones. */
struct alignas(64) Sums {
  uint8_t high[SUMS_BYTES], low[SUMS_BYTES];
};

/** One step of a block of rows: where the current group is, and what is to be done. */
struct Step {
  const uint8_t* x;
  const uint8_t* weights;
  bool multiplies, stores, adds;
  bool ends;  // What is added ends a span.
};

/** Sums of ROWS / 4 rows, scaled, on top of those of the span's groups before. */
template <int QUARTER>
EXO_INLINE void accumulate(const Sums& sums, const uint8_t* x_scales, const uint8_t* scales,
                           F (&terms)[ROWS]) {
  const F scale = load_typed(Dtype::f32, scales, 0), bias = load_typed(Dtype::f32, scales, PANEL);
  EXO_UNROLL
  for (int i = 0; i < ROWS / 4; i++) {
    const int r = QUARTER * ROWS / 4 + i;
    const F qsum = broadcast(load_one(x_scales + (ROWS + r) * 4));
    const I sum = times_256(load_i(sums.high + r * PANEL * 4)) + load_i(sums.low + r * PANEL * 4);
    terms[r] = fma(scale, to_float(sum), fma(bias, qsum, terms[r]));
  }
}

/** Ends a span: its terms, times their steps, go into acc [ROWS], COLUMNS apart. */
EXO_INLINE void add_span(const uint8_t* steps, F (&terms)[ROWS], float* acc) {
  EXO_UNROLL
  for (int r = 0; r < ROWS; r++) {
    float* at = acc + r * COLUMNS;
    store(at, fma(broadcast(load_one(steps + r * 4)), terms[r], load(at)));
    terms[r] = zero();
  }
}

/**
 * A pipeline of three: the current group's products go into tiles TILE and TILE + 1; those of the
 * group before, which other tiles hold, to `before`; those of the group before that, from
 * `two_before`, into the terms of their span. In small pieces, since the processor does not look
 * far ahead.
 */
template <int GROUP, int TILE>
EXO_INLINE void take_step(const Step& step, Sums& before, const Sums& two_before, F (&terms)[ROWS],
                          float* acc) {
  constexpr int DEPTH = tile_inputs(GROUP), X = 4, W = 6 + TILE / 2, BEFORE = 2 - TILE;
  const uint8_t* x_scales = step.x - 2 * block_group_bytes(GROUP) + GROUP * 2 * ROWS;
  const uint8_t* scales = step.weights - 2 * unpacked_bytes(GROUP) + GROUP * PANEL;
  if (step.multiplies) {
    zero_tile<TILE>();
    zero_tile<TILE + 1>();
    load_tile<W>(step.weights, PANEL * 4);
    load_tile<X>(step.x, DEPTH);
    add_signed_products<TILE, X, W>();
  }
  if (step.adds) accumulate<0>(two_before, x_scales, scales, terms);
  if (step.stores) store_tile<BEFORE>(before.high, PANEL * 4);
  if (step.adds) accumulate<1>(two_before, x_scales, scales, terms);
  if (step.multiplies) {
    load_tile<X + 1>(step.x + ROWS * DEPTH, DEPTH);
    add_unsigned_products<TILE + 1, X + 1, W>();
  }
  if (step.adds) accumulate<2>(two_before, x_scales, scales, terms);
  if (step.stores) store_tile<BEFORE + 1>(before.low, PANEL * 4);
  if (GROUP > DEPTH && step.multiplies) {  // The second half of a group of 128.
    load_tile<W>(step.weights + PANEL * DEPTH, PANEL * 4);
    load_tile<X>(step.x + 2 * ROWS * DEPTH, DEPTH);
    add_signed_products<TILE, X, W>();
    load_tile<X + 1>(step.x + 3 * ROWS * DEPTH, DEPTH);
    add_unsigned_products<TILE + 1, X + 1, W>();
  }
  if (step.adds) accumulate<3>(two_before, x_scales, scales, terms);
  if (step.ends) add_span(x_scales, terms, acc);
}

/** A chunk's products with one block of rows, added to acc [ROWS], COLUMNS apart. */
template <int GROUP>
__attribute__((noinline)) void multiply_block(const Chunk& chunk, const uint8_t* x, float* acc) {
  constexpr int SPAN = ACTIVATION_SPAN / GROUP;
  Sums even, odd;
  F terms[ROWS];
  EXO_UNROLL
  for (int r = 0; r < ROWS; r++) {
    terms[r] = zero();
    if (chunk.is_first) store(acc + r * COLUMNS, zero());
  }
  const uint8_t* weights = chunk.weights;
  const int groups = chunk.groups;
  const auto ends = [&](int group) { return (group + 1) % SPAN == 0 || group + 1 == groups; };
  for (int group = 0; group < groups + 2; group += 2) {
    const bool adds_odd = group > 0 && group <= groups;
    take_step<GROUP, 0>({x, weights, group < groups, adds_odd, group > 1,
                                 group > 1 && ends(group - 2)},
                                odd, even, terms, acc);
    x += block_group_bytes(GROUP);
    weights += unpacked_bytes(GROUP);
    take_step<GROUP, 2>({x, weights, group + 1 < groups, group < groups, adds_odd,
                                 adds_odd && ends(group - 1)},
                                even, odd, terms, acc);
    x += block_group_bytes(GROUP);
    weights += unpacked_bytes(GROUP);
  }
}

typedef void (*MultiplyBlock)(const Chunk& chunk, const uint8_t* x, float* acc);

static MultiplyBlock multiply_block_for(int group) {
  if (group == 16) return multiply_block<16>;
  if (group == 32) return multiply_block<32>;
  return group == 64 ? multiply_block<64> : multiply_block<128>;
}

}  // namespace exo::kernels::amx
