#include "dispatch.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace exo::kernels {
namespace {

constexpr Isa ALL[] = {Isa::scalar, Isa::avx2, Isa::avx512};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::scalar: return "scalar";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
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
  if (isa == Isa::avx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
  }
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
