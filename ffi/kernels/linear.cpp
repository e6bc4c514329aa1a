#include "linear_amx.h"

namespace exo::kernels {

namespace scalar {
extern const LinearKernels LINEAR;
}
#if defined(__x86_64__)
namespace avx2 {
extern const LinearKernels LINEAR;
}
namespace avx512 {
extern const LinearKernels LINEAR;
}
#endif

const LinearKernels& linear_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx2: return avx2::LINEAR;
    case Isa::avx512: return avx512::LINEAR;
    case Isa::amx: return *amx::linear_kernels();
#endif
    default: return scalar::LINEAR;
  }
}

const LinearKernels& linear_kernels() {
  static const LinearKernels& chosen = linear_kernels(chosen_isa());
  return chosen;
}

}  // namespace exo::kernels
