// The linear kernels with AMX: products of 8-bit integers, tile by tile. Few rows, and all that is
// not a quantised product, are AVX-512's.
#include "linear_amx.h"

// Compilers with one of these headers (GCC 11's, Clang 12's) have assemblers that know the tiles.
#if defined(__x86_64__) && defined(__linux__) && \
    (__has_include(<amxint8intrin.h>) || __has_include(<amxintrin.h>))
#include "simd_avx512.h"
// After the primitives.
#include "linear_amx_rows.h"
#include "linear_output.h"

namespace exo::kernels::avx512 {
extern const LinearKernels LINEAR;
}

namespace exo::kernels::amx {
namespace {

using namespace avx512;

/** From so many rows on tiles are faster: a half empty block costs as much as a full one. */
constexpr int ROWS_MIN = 24;

/**
 * Panels that a block of rows meets in turn: the block stays in the first cache, and rows of the
 * output are written in pieces of four cache lines.
 */
constexpr int PANELS = 4;
constexpr int COLUMNS = PANELS * PANEL;

/** Inputs of a chunk: a block's bytes of them, 27 KiB, stay in the first cache. */
constexpr int CHUNK_INPUTS = 768;

/** Rows of a pass at most, and their bytes: they stay in the second cache. */
constexpr int PASS_BLOCKS = 256 / ROWS;
constexpr size_t PASS_BYTES = 1 << 20;

/** How far ahead weights are fetched while they are unpacked. */
constexpr size_t PREFETCH_BYTES = 2048;

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

/** Words of 16 outputs become rows of tiles: a value of each byte at a time. */
template <int BITS>
void unpack_words(const uint8_t* words, int count, uint8_t* to) {
  const I mask = broadcast_i(BITS == 2 ? 0x03030303 : 0x0f0f0f0f);
  for (; count > 0; count--, words += PANEL * 4) {
    const I word = load_i(words);
    EXO_UNROLL
    for (int i = 0; i < 8 / BITS; i++, to += PANEL * 4) {
      store_i(to, BITS == 8 ? word : I(U(word) >> (BITS * i)) & mask);
    }
  }
}

template <int BITS>
void unpack_groups(const MatrixSpec& spec, const uint8_t* from, const Chunk& chunk) {
  const int words = spec.group * BITS / 32;
  const size_t record = group_bytes(spec), biases = PANEL * dtype_bytes(spec.scales);
  uint8_t* to = chunk.weights;
  for (int group = 0; group < chunk.groups; group++, from += record) {
    for (size_t at = 0; at < record; at += 64) __builtin_prefetch(from + PREFETCH_BYTES + at);
    unpack_words<BITS>(from, words, to);
    auto* scales = reinterpret_cast<float*>(to + size_t(spec.group) * PANEL);
    const uint8_t* typed = from + size_t(words) * PANEL * 4;
    store(scales, load_typed(spec.scales, typed, 0));
    store(scales + PANEL, load_typed(spec.scales, typed + biases, 0));
    to += unpacked_bytes(spec.group);
  }
}

void unpack(const MatrixSpec& spec, const uint8_t* from, const Chunk& chunk) {
  const int bits = packed_bits(spec.bits);
  if (bits == 2) unpack_groups<2>(spec, from, chunk);
  if (bits == 4) unpack_groups<4>(spec, from, chunk);
  if (bits == 8) unpack_groups<8>(spec, from, chunk);
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
};

/** Sums of ROWS / 4 rows, scaled, on top of those before. */
template <int QUARTER>
EXO_INLINE void accumulate(const Sums& sums, const uint8_t* x_scales, const uint8_t* scales,
                           F (&acc)[ROWS]) {
  const F scale = load_typed(Dtype::f32, scales, 0), bias = load_typed(Dtype::f32, scales, PANEL);
  EXO_UNROLL
  for (int i = 0; i < ROWS / 4; i++) {
    const int r = QUARTER * ROWS / 4 + i;
    const F step = broadcast(load_one(x_scales + r * 4));
    const F qsum = broadcast(load_one(x_scales + (ROWS + r) * 4));
    const I sum = times_256(load_i(sums.high + r * PANEL * 4)) + load_i(sums.low + r * PANEL * 4);
    acc[r] = fma(step, fma(scale, to_float(sum), bias * qsum), acc[r]);
  }
}

/**
 * A pipeline of three: the current group's products go into tiles TILE and TILE + 1; those of the
 * group before, which other tiles hold, to `before`; those of the group before that, from
 * `two_before`, into acc. In small pieces, since the processor does not look far ahead.
 */
template <int GROUP, int TILE>
EXO_INLINE void take_step(const Step& step, Sums& before, const Sums& two_before, F (&acc)[ROWS]) {
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
  if (step.adds) accumulate<0>(two_before, x_scales, scales, acc);
  if (step.stores) store_tile<BEFORE>(before.high, PANEL * 4);
  if (step.adds) accumulate<1>(two_before, x_scales, scales, acc);
  if (step.multiplies) {
    load_tile<X + 1>(step.x + ROWS * DEPTH, DEPTH);
    add_unsigned_products<TILE + 1, X + 1, W>();
  }
  if (step.adds) accumulate<2>(two_before, x_scales, scales, acc);
  if (step.stores) store_tile<BEFORE + 1>(before.low, PANEL * 4);
  if (GROUP > DEPTH && step.multiplies) {  // The second half of a group of 128.
    load_tile<W>(step.weights + PANEL * DEPTH, PANEL * 4);
    load_tile<X>(step.x + 2 * ROWS * DEPTH, DEPTH);
    add_signed_products<TILE, X, W>();
    load_tile<X + 1>(step.x + 3 * ROWS * DEPTH, DEPTH);
    add_unsigned_products<TILE + 1, X + 1, W>();
  }
  if (step.adds) accumulate<3>(two_before, x_scales, scales, acc);
}

/** A chunk's products with one block of rows, added to acc [ROWS], COLUMNS apart. */
template <int GROUP>
__attribute__((noinline)) void multiply_block(const Chunk& chunk, const uint8_t* x, float* acc_at) {
  Sums even, odd;
  F acc[ROWS];
  EXO_UNROLL
  for (int r = 0; r < ROWS; r++) {
    acc[r] = chunk.is_first ? zero() : load(acc_at + r * COLUMNS);
  }
  const uint8_t* weights = chunk.weights;
  const int groups = chunk.groups;
  for (int group = 0; group < groups + 2; group += 2) {
    take_step<GROUP, 0>({x, weights, group < groups, group > 0 && group <= groups, group > 1}, odd,
                        even, acc);
    x += block_group_bytes(GROUP);
    weights += unpacked_bytes(GROUP);
    take_step<GROUP, 2>(
        {x, weights, group + 1 < groups, group < groups, group > 0 && group <= groups}, even, odd,
        acc);
    x += block_group_bytes(GROUP);
    weights += unpacked_bytes(GROUP);
  }
  EXO_UNROLL
  for (int r = 0; r < ROWS; r++) store(acc_at + r * COLUMNS, acc[r]);
}

typedef void (*MultiplyBlock)(const Chunk& chunk, const uint8_t* x, float* acc);

MultiplyBlock multiply_block_for(int group) {
  if (group == 16) return multiply_block<16>;
  if (group == 32) return multiply_block<32>;
  return group == 64 ? multiply_block<64> : multiply_block<128>;
}

/** What a product's passes share. */
struct Pass {
  const MatrixSpec& spec;
  const uint8_t* packed;
  const ArrangedRows& x;
  const Output& output;
  size_t block_bytes;
  MultiplyBlock multiply;
};

/** Fetches where results will go, one cache line of each row: the second cache seldom has them. */
void prefetch_output(const Output& output, int row, int rows, int column) {
  for (int r = row; r < row + rows; r++) {
    __builtin_prefetch(output.y + r * output.stride + column, 1);
    if (output.residual != nullptr) {
      __builtin_prefetch(output.residual + r * output.residual_stride + column);
    }
  }
}

/** All products of up to COLUMNS outputs with the blocks block_begin..block_end-1. */
void multiply_columns(const Pass& pass, int column, int count, int block_begin, int block_end) {
  constexpr size_t PANEL_BYTES = CHUNK_INPUTS * PANEL + CHUNK_INPUTS / 16 * 2 * PANEL * 4;
  alignas(64) float acc[PASS_BLOCKS * ROWS * COLUMNS];
  alignas(64) uint8_t unpacked[PANELS * PANEL_BYTES];
  const MatrixSpec& spec = pass.spec;
  const uint8_t* first_panel = pass.packed + panel_bytes(spec) * (column / PANEL);
  const int groups = spec.inputs / spec.group, most = CHUNK_INPUTS / spec.group;
  const int chunks = groups == 0 ? 1 : (groups + most - 1) / most, panels = panel_count(count);
  for (int i = 0; i < chunks; i++) {
    const int first = groups * i / chunks, end = groups * (i + 1) / chunks;
    Chunk chunk[PANELS];
    for (int p = 0; p < panels; p++) {
      chunk[p] = {unpacked + p * PANEL_BYTES, end - first, i == 0};
      unpack(spec, first_panel + panel_bytes(spec) * p + group_bytes(spec) * first, chunk[p]);
    }
    const uint8_t* x = pass.x.data + pass.block_bytes * block_begin +
                       block_group_bytes(spec.group) * first;
    for (int block = block_begin; block < block_end; block++, x += pass.block_bytes) {
      // With one chunk only, all blocks use the same sums, which stay in the first cache.
      float* at = acc + (chunks == 1 ? 0 : block - block_begin) * ROWS * COLUMNS;
      const int row = block * ROWS, rows = pass.x.rows - row < ROWS ? pass.x.rows - row : ROWS;
      for (int p = 0; p < panels; p++) {
        if (i + 1 == chunks) prefetch_output(pass.output, row, rows, column + p * PANEL);
        pass.multiply(chunk[p], x, at + p * PANEL);
      }
      if (i + 1 < chunks) continue;
      write_tile(at, COLUMNS, row, rows, column, count, pass.output);
    }
  }
}

int blocks_of(int rows) {
  return rows < ROWS_MIN ? LINEAR.quantized_blocks(rows) : (rows + ROWS - 1) / ROWS;
}

int dense_blocks_of(int rows) { return LINEAR.dense_blocks(rows); }

void quantize_rows(const MatrixSpec& spec, const float* x, size_t stride, int rows, int block_begin,
                   int block_end, uint8_t* dst) {
  if (rows < ROWS_MIN) {
    return LINEAR.quantize_rows(spec, x, stride, rows, block_begin, block_end, dst);
  }
  const size_t bytes = block_group_bytes(spec.group) * (spec.inputs / spec.group);
  for (int block = block_begin; block < block_end; block++) {
    const int first = block * ROWS, left = rows - first;
    quantize_block(spec, x + first * stride, stride, left < ROWS ? left : ROWS,
                   dst + bytes * block);
  }
}

void linear(const MatrixSpec& spec, const uint8_t* packed, const ArrangedRows& x, const Part& part,
            const Output& output) {
  if (x.rows < ROWS_MIN) return LINEAR.linear(spec, packed, x, part, output);
  const int end = part.output_end < spec.outputs ? part.output_end : spec.outputs;
  if (part.output_begin >= end) return;
  const int depth = tile_inputs(spec.group);
  TileConfig config;
  for (int tile = 0; tile < 4; tile++) config.set(tile, ROWS, PANEL * 4);
  for (int tile = 4; tile < 6; tile++) config.set(tile, ROWS, depth);
  for (int tile = 6; tile < 8; tile++) config.set(tile, depth / 4, PANEL * 4);
  const size_t block_bytes = block_group_bytes(spec.group) * (spec.inputs / spec.group);
  const Pass pass{spec, packed, x, output, block_bytes, multiply_block_for(spec.group)};
  int blocks = int(PASS_BYTES / (block_bytes + 1));
  blocks = blocks < 8 ? 8 : blocks > PASS_BLOCKS ? PASS_BLOCKS : blocks;
  configure_tiles(config);
  for (int block = part.block_begin; block < part.block_end; block += blocks) {
    const int last = block + blocks < part.block_end ? block + blocks : part.block_end;
    for (int column = part.output_begin; column < end; column += COLUMNS) {
      multiply_columns(pass, column, end - column < COLUMNS ? end - column : COLUMNS, block, last);
    }
  }
  release_tiles();
}

}  // namespace

const LinearKernels* linear_kernels() {
  static const LinearKernels kernels = {
      blocks_of,    dense_blocks_of,     quantize_rows,       linear,
      LINEAR.embed, LINEAR.arrange_rows, LINEAR.dense_linear, LINEAR.dense_embed};
  return &kernels;
}

}  // namespace exo::kernels::amx
#else
namespace exo::kernels::amx {

const LinearKernels* linear_kernels() { return nullptr; }

}  // namespace exo::kernels::amx
#endif
