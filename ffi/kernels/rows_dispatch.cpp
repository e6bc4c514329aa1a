#include "rows.h"

namespace exo::kernels {
namespace scalar {
extern const RowKernels ROW_KERNELS;
}
#if defined(__x86_64__)
namespace avx2 {
extern const RowKernels ROW_KERNELS;
}
namespace avx512 {
extern const RowKernels ROW_KERNELS;
}
#endif

const RowKernels& row_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::avx512 || isa == Isa::amx) return avx512::ROW_KERNELS;
  if (isa == Isa::avx2) return avx2::ROW_KERNELS;
#endif
  (void)isa;
  return scalar::ROW_KERNELS;
}

const RowKernels& row_kernels() {
  static const RowKernels& chosen = row_kernels(chosen_isa());
  return chosen;
}

}  // namespace exo::kernels
