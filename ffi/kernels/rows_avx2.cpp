#if defined(__x86_64__)
#include "simd_avx2.h"
// After the primitives, in terms of which it is written.
#include "rows_impl.h"
#endif
