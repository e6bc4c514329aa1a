// The linear kernels for AVX-512 with VNNI: 32 registers hold 12 x 2 sums and their inputs.
#if defined(__x86_64__)
#include "simd_avx512.h"

#define TILE_ROWS 12
#define TILE_PARTS 2
#include "linear_impl.h"
#endif
