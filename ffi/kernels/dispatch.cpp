#include "dispatch.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "linear_amx.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace exo::kernels {
namespace {

constexpr Isa ALL[] = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::amx};

/**
 * Whether tiles of 8-bit integers can be used; asks Linux for them, once for the whole process.
 * Sources: Intel SDM, CPUID leaf 7; Linux, Documentation/arch/x86/xstate.rst.
 */
bool request_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned VBMI = 1u << 1, TILE = 1u << 24, INT8 = 1u << 25;
  if ((c & VBMI) == 0 || (d & TILE) == 0 || (d & INT8) == 0) return false;
  constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
  return false;
#endif
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar: return "scalar";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::amx: return "amx";
  }
  return "unknown";
}

// __builtin_cpu_supports also asks the operating system (XGETBV) whether it saves the registers.
bool isa_supported(Isa isa) {
  if (isa == Isa::scalar) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (isa == Isa::avx2) return avx2;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  if (isa == Isa::avx512) return avx512;
  static const bool has_tiles = avx512 && amx::linear_kernels() != nullptr && request_tiles();
  if (isa == Isa::amx) return has_tiles;
#endif
  return false;
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> found;
  for (Isa isa : ALL) {
    if (isa_supported(isa)) found.push_back(isa);
  }
  return found;
}

Isa choose_isa(const char* wanted) {
  if (wanted == nullptr || *wanted == 0) return supported_isas().back();
  std::string names;
  for (Isa isa : ALL) {
    if (strcmp(wanted, isa_name(isa)) == 0 && isa_supported(isa)) return isa;
    if (isa_supported(isa)) names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  throw std::runtime_error("Cannot choose CPU kernels: EXO_KERNELS is \"" + std::string(wanted) +
                           "\", this machine can run " + names);
}

Isa chosen_isa() {
  static const Isa chosen = choose_isa(getenv("EXO_KERNELS"));
  return chosen;
}

}  // namespace exo::kernels
