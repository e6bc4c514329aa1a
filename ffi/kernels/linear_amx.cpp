// The linear kernels with AMX: products of 8-bit integers, tile by tile. Few rows, and all that is
// not a quantised product, are AVX-512's.
#include "linear_amx.h"

// Compilers with one of these headers (GCC 11's, Clang 12's) have assemblers that know the tiles.
#if defined(__x86_64__) && defined(__linux__) && \
    (__has_include(<amxint8intrin.h>) || __has_include(<amxintrin.h>))
#include "simd_avx512.h"
// After the primitives.
#include "linear_amx_rows.h"
#include "linear_amx_steps.h"
#include "linear_output.h"

namespace exo::kernels::avx512 {
extern const LinearKernels LINEAR;
}

namespace exo::kernels::amx {
namespace {

using namespace avx512;

/** From so many rows on tiles are faster: a half empty block costs as much as a full one. */
constexpr int ROWS_MIN = 24;

/** Spans of a chunk at most: a block's bytes of them, 27 KiB, stay in the first cache. */
constexpr int CHUNK_SPANS = 6;

/** Rows of a pass at most, and their bytes: they stay in the second cache. */
constexpr int PASS_BLOCKS = 256 / ROWS;
constexpr size_t PASS_BYTES = 1 << 20;

/** How far ahead weights are fetched while they are unpacked. */
constexpr size_t PREFETCH_BYTES = 2048;

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

/** What a product's passes share. */
struct Pass {
  const MatrixSpec& spec;
  const uint8_t* packed;
  const ArrangedRows& x;
  const Output& output;
  size_t block_bytes;
  MultiplyBlock multiply;
};

/** All products of up to COLUMNS outputs with the blocks block_begin..block_end-1. */
void multiply_columns(const Pass& pass, int column, int count, int block_begin, int block_end) {
  constexpr size_t PANEL_BYTES = CHUNK_SPANS * (ACTIVATION_SPAN / 16) * unpacked_bytes(16);
  alignas(64) float acc[PASS_BLOCKS * ROWS * COLUMNS];
  alignas(64) uint8_t unpacked[PANELS * PANEL_BYTES];
  const MatrixSpec& spec = pass.spec;
  const uint8_t* first_panel = pass.packed + panel_bytes(spec) * (column / PANEL);
  const int groups = spec.inputs / spec.group, span = ACTIVATION_SPAN / spec.group;
  const int spans = (spec.inputs + ACTIVATION_SPAN - 1) / ACTIVATION_SPAN;
  const int chunks = spans == 0 ? 1 : (spans + CHUNK_SPANS - 1) / CHUNK_SPANS;
  const int panels = panel_count(count);
  for (int i = 0; i < chunks; i++) {
    const int first = spans * i / chunks * span, rest = spans * (i + 1) / chunks * span;
    const int end = rest < groups ? rest : groups;
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
