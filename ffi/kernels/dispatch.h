// Which instruction set the kernels use on this machine.
#pragma once
#include <vector>

namespace exo::kernels {

/** An instruction set that the kernels are compiled for, slowest first. */
enum class Isa { scalar, avx2, avx512, amx };

/** Its name, as EXO_KERNELS spells it. */
const char* isa_name(Isa isa);

/** Whether this machine, its operating system and this build can run it. Asks for AMX's tiles. */
bool isa_supported(Isa isa);

/** All that can run here, slowest first. */
std::vector<Isa> supported_isas();

/**
 * The fastest supported one, or the one that EXO_KERNELS names. Read once.
 * @throws std::runtime_error when EXO_KERNELS names none, or one that cannot run here.
 */
Isa chosen_isa();

/** What chosen_isa() does, for a given value of EXO_KERNELS (null: not set). */
Isa choose_isa(const char* wanted);

}  // namespace exo::kernels
