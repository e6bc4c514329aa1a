#include "simd_scalar.h"
// After the primitives, in terms of which it is written.
#include "rows_impl.h"
