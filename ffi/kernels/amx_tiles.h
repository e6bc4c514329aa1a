// The AMX instructions that the kernels need. Written as assembly: GCC 12's own intrinsics do not
// say that they read memory (so stores before them get lost), and no compiler flag is needed.
#pragma once
#include "dtype.h"

namespace exo::kernels::amx {

/** Bytes of one row of a tile at most, and rows of a tile at most. */
constexpr int TILE_ROW_BYTES = 64;
constexpr int TILE_ROWS_MAX = 16;

/** What LDTILECFG reads. Source: Intel SDM, volume 1, 18.2 "TILE configuration". */
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int row_count, int bytes) {
    rows[tile] = uint8_t(row_count);
    row_bytes[tile] = uint16_t(bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

/** Gives this thread's tiles their shapes, and zeros. */
EXO_INLINE void configure_tiles(const TileConfig& config) {
  __asm__ volatile("ldtilecfg (%0)" ::"r"(&config) : "memory");
}

/** Frees this thread's tiles, so that the system need not save them. */
EXO_INLINE void release_tiles() { __asm__ volatile("tilerelease" ::: "memory"); }

template <int TILE>
EXO_INLINE void zero_tile() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(TILE));
}

/** Rows of the tile are `stride` bytes apart in memory. */
template <int TILE>
EXO_INLINE void load_tile(const void* at, size_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(at), "r"(stride), "i"(TILE) : "memory");
}

template <int TILE>
EXO_INLINE void store_tile(void* at, size_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(at), "r"(stride), "i"(TILE) : "memory");
}

/** SUM [m, n] += X [m, 4k] of int8 times W [k, 4n] of uint8: four neighbours of a row at a time. */
template <int SUM, int X, int W>
EXO_INLINE void add_signed_products() {
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUM), "i"(X), "i"(W));
}

/** The same with X of uint8. */
template <int SUM, int X, int W>
EXO_INLINE void add_unsigned_products() {
  __asm__ volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUM), "i"(X), "i"(W));
}

}  // namespace exo::kernels::amx
