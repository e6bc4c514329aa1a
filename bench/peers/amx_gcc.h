// Included ahead of llama.cpp's C++ sources. GCC 12's _tile_loadconfig tells the compiler that eight
// of its 64 bytes are read, so that the stores of the others are removed as dead and the first use
// of a tile ends the process. This one says that all memory is read.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#if defined(__AMX_TILE__)
static inline void load_tile_config(const void *config) {
  __asm__ volatile("ldtilecfg (%0)" : : "r"(config) : "memory");
}
#undef _tile_loadconfig
#define _tile_loadconfig(config) load_tile_config(config)
#endif
#endif
