// Rotary position embedding. Source: arXiv:2104.09864.
#pragma once
#include <memory>
#include <vector>

#include "rows_view.h"

namespace exo::kernels {

/** What the rotation of a model is. */
struct RopeSpec {
  std::vector<float> frequencies;  // Radians per position, one per pair of dimensions.
  float position_scale = 1;        // Positions are multiplied by it first (linear scaling).
  float amplitude = 1;             // Cosines and sines are multiplied by it (YaRN).
};

/**
 * Cosines and sines of the angles float(position * position_scale) * frequency, the product rounded
 * to f32 as MLX rounds it, made once for each position. Grows in blocks that never move.
 */
class RopeTable {
 public:
  explicit RopeTable(RopeSpec spec);

  /** Pairs of dimensions that turn. */
  int pairs() const;

  /**
   * Makes the rows of positions 0..count-1, before any thread asks for them.
   * @throws std::length_error when count exceeds POSITIONS_MAX.
   */
  void reserve(int count);

  /** The cosines [pairs], then the sines [pairs], of a position below the reserved count. */
  const float* row(int position) const;

  static constexpr int BLOCK_POSITIONS = 256;
  static constexpr int POSITIONS_MAX = 1 << 24;  // Beyond it f32 has no odd position.

 private:
  void fill(int position, float* out) const;

  RopeSpec spec_;
  std::vector<std::unique_ptr<float[]>> blocks_;
};

/**
 * Turns the first 2 * pairs dimensions of each head; the others are copied. Pairs are
 * (i, i + pairs), or with `traditional` (2i, 2i + 1). `out` may be `x`.
 */
struct RopeArgs {
  ConstRows x;  // [rows, heads * head_dim]
  Rows out;
  const int32_t* positions = nullptr;  // [rows]
  const RopeTable* table = nullptr;
  int heads = 0;
  int head_dim = 0;  // At least 2 * pairs.
  bool traditional = false;
};

}  // namespace exo::kernels
