#include "rope.h"

#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace exo::kernels {

RopeTable::RopeTable(RopeSpec spec) : spec_(std::move(spec)) {}

int RopeTable::pairs() const { return int(spec_.frequencies.size()); }

void RopeTable::fill(int position, float* out) const {
  const int half = pairs();
  const float at = float(position) * spec_.position_scale;
  for (int i = 0; i < half; i++) {
    const float angle = at * spec_.frequencies[size_t(i)];
    out[i] = float(std::cos(double(angle)) * spec_.amplitude);
    out[half + i] = float(std::sin(double(angle)) * spec_.amplitude);
  }
}

void RopeTable::reserve(int count) {
  if (count > POSITIONS_MAX) {
    throw std::length_error("Cannot rotate position " + std::to_string(count - 1) + ": at most " +
                            std::to_string(POSITIONS_MAX) + " positions are possible");
  }
  const size_t row_floats = 2 * size_t(pairs());
  while (blocks_.size() * BLOCK_POSITIONS < size_t(count > 0 ? count : 0)) {
    auto block = std::make_unique<float[]>(row_floats * BLOCK_POSITIONS);
    const int first = int(blocks_.size()) * BLOCK_POSITIONS;
    for (int i = 0; i < BLOCK_POSITIONS; i++) fill(first + i, block.get() + size_t(i) * row_floats);
    blocks_.push_back(std::move(block));
  }
}

const float* RopeTable::row(int position) const {
  const float* block = blocks_[size_t(position / BLOCK_POSITIONS)].get();
  return block + size_t(position % BLOCK_POSITIONS) * 2 * size_t(pairs());
}

}  // namespace exo::kernels
