// Packs GGUF's quantised tensors without a detour: each of its types is affine, group by group.
#pragma once
#include "pack.h"

namespace exo::kernels {

/** GGML types that have an affine form: w = scale * q + bias over groups of 16 or 32. */
enum class GgmlType { q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k };

/**
 * The affine form of a tensor [outputs, inputs]; its values are the tensor's own, but that
 * scale * q + bias is rounded once. Types with scales of scales get f32 ones, their exact products.
 * @throws std::invalid_argument when inputs are no multiple of the type's block.
 */
MatrixSpec gguf_spec(GgmlType type, int outputs, int inputs);

/** Bytes of one row of blocks. */
size_t gguf_row_bytes(GgmlType type, int inputs);

/** Values of one block, which groups share. */
int gguf_block_values(GgmlType type);

/** Rows of whole blocks, the first of them row row_begin. */
struct GgufRows {
  const void* blocks;
  size_t row_bytes;     // From one row to the next.
  int first_group = 0;  // Groups of each row that come before those to pack.
};

/**
 * pack_affine() for rows of blocks. spec is gguf_spec()'s, but may have fewer inputs: as many groups
 * are packed. A Q8_0 scale beyond 511 becomes infinite, as 128 times it has no f16.
 * Source: llama.cpp, ggml/src/ggml-common.h and ggml-quants.c (dequantize_row_*), 2025.
 */
void pack_gguf(GgmlType type, const MatrixSpec& spec, const GgufRows& source, int row_begin,
               int row_end, uint8_t* dst);

}  // namespace exo::kernels
