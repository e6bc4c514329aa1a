// The linear kernels for AVX2 (-mavx2 -mfma -mf16c): 16 registers hold 6 x 2 sums and their inputs.
#if defined(__x86_64__)
#include "simd_avx2.h"

#define TILE_ROWS 6
#define TILE_PARTS 2
#include "linear_impl.h"
#endif
