// The linear kernels with AMX, for dispatch.cpp and linear.cpp.
#pragma once
#include "linear.h"

namespace exo::kernels::amx {

/** The kernels, or null where this build lacks them: another processor, or too old a compiler. */
const LinearKernels* linear_kernels();

}  // namespace exo::kernels::amx
