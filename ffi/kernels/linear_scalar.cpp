// The linear kernels without any instruction set flag.
#include "simd_scalar.h"

#define TILE_ROWS 4
#define TILE_PARTS 4
#include "linear_impl.h"
