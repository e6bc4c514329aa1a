// Weight matrices in the order in which the kernels read them: panels of 16 outputs, lanes =
// outputs.
#pragma once
#include "dtype.h"

namespace exo::kernels {

/** Outputs of a panel. */
constexpr int PANEL = 16;

/** Where packed matrices and quantised rows must begin, bytes. */
constexpr size_t ALIGN = 64;

/** An affine-quantised matrix [outputs, inputs]: w = scale * q + bias, one pair per group. */
struct MatrixSpec {
  int outputs;
  int inputs;    // A multiple of group.
  int bits;      // 2, 3, 4, 5, 6 or 8, as the checkpoint has them.
  int group;     // 16, 32, 64 or 128 consecutive inputs share a scale and a bias.
  Dtype scales;  // Of scales and biases.
};

/** A dense matrix [outputs, inputs]. */
struct DenseSpec {
  int outputs;
  int inputs;
  Dtype dtype;
};

/** Bits that a packed value takes: 3 are widened to 4, and 5 and 6 to 8. */
EXO_INLINE int packed_bits(int bits) { return bits == 2 ? 2 : bits <= 4 ? 4 : 8; }

/**
 * Bytes of one group of one panel: words [group * bits / 32][16], then scales [16], biases [16].
 * They lie together, so that a product reads one stream; always a multiple of 64.
 */
EXO_INLINE size_t group_bytes(const MatrixSpec& spec) {
  const size_t words = size_t(spec.group) * packed_bits(spec.bits) / 32;
  return words * PANEL * 4 + 2 * PANEL * dtype_bytes(spec.scales);
}

/** Bytes of one panel: groups in the order of the inputs. */
EXO_INLINE size_t panel_bytes(const MatrixSpec& spec) {
  return group_bytes(spec) * (spec.inputs / spec.group);
}

/** Bytes of one panel: [inputs][16] in the matrix's own type. */
EXO_INLINE size_t panel_bytes(const DenseSpec& spec) {
  return dtype_bytes(spec.dtype) * PANEL * spec.inputs;
}

EXO_INLINE int panel_count(int outputs) { return (outputs + PANEL - 1) / PANEL; }

/**
 * Bytes of the packed matrix; it must begin at a multiple of ALIGN.
 * @throws std::invalid_argument when the kernels do not serve such a matrix.
 */
size_t packed_bytes(const MatrixSpec& spec);
size_t packed_bytes(const DenseSpec& spec);

/** Rows of a quantised matrix as MLX stores them; each pointer is at the first row to pack. */
struct AffineRows {
  const void* words;   // [rows, inputs * bits / 32] uint32: values lie lowest bits first.
  const void* scales;  // [rows, inputs / group]
  const void* biases;  // [rows, inputs / group]
};

/**
 * Packs rows row_begin..row_end-1 into dst, which holds the whole matrix. Calls for different rows
 * may run at once; the call that packs the last row also clears the lanes beyond it.
 * Source: mlx 0.32, mlx/backend/cpu/quantized.cpp (what quantize() writes).
 */
void pack_affine(const MatrixSpec& spec, const AffineRows& source, int row_begin, int row_end,
                 uint8_t* dst);

/** The same for dense rows [row_end - row_begin, inputs]. */
void pack_dense(const DenseSpec& spec, const void* source, int row_begin, int row_end,
                uint8_t* dst);

/** Writes one packed value; for packers of other formats. group_at is the group in the panel. */
EXO_INLINE void set_word(uint8_t* group_at, int word, int lane, uint32_t value) {
  memcpy(group_at + (size_t(word) * PANEL + lane) * 4, &value, 4);
}

/** Clears the lanes beyond the last output. */
void clear_padding(const MatrixSpec& spec, uint8_t* dst);

}  // namespace exo::kernels
