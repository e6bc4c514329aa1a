// Threefry-2x32 with 20 rounds: 64 random bits of a key and a counter, without any state between.
// Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once
#include <array>
#include <cstdint>

namespace exo::kernels {

using Words = std::array<uint32_t, 2>;

inline Words threefry(Words key, Words counter) {
  constexpr int ROUNDS = 20, ROUNDS_PER_KEY = 4;
  constexpr uint32_t PARITY = 0x1bd11bda;
  constexpr std::array<int, 8> ROTATIONS{13, 15, 26, 6, 17, 29, 16, 24};
  const std::array<uint32_t, 3> keys{key[0], key[1], PARITY ^ key[0] ^ key[1]};
  uint32_t a = counter[0] + keys[0], b = counter[1] + keys[1];
  for (uint32_t round = 0; round < ROUNDS; round++) {
    a += b;
    const int by = ROTATIONS[round % ROTATIONS.size()];
    b = (b << by | b >> (32 - by)) ^ a;
    if ((round + 1) % ROUNDS_PER_KEY != 0) continue;
    const uint32_t injection = (round + 1) / ROUNDS_PER_KEY;
    a += keys[injection % 3];
    b += keys[(injection + 1) % 3] + injection;
  }
  return {a, b};
}

/** Number `index` of the sequence that a seed stands for: in [0, 1), a multiple of 2^-53. */
inline double uniform_at(uint64_t seed, uint64_t index) {
  const Words bits = threefry({uint32_t(seed >> 32), uint32_t(seed)},
                              {uint32_t(index), uint32_t(index >> 32)});
  return double((uint64_t(bits[0]) << 32 | bits[1]) >> 11) * 0x1p-53;
}

}  // namespace exo::kernels
