#include "pack.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace exo::kernels {
namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& found,
                         const std::string& needed) {
  throw std::invalid_argument("Cannot pack a matrix: " + what + " " + found + ", " + needed +
                              " needed");
}

void check(const MatrixSpec& spec) {
  const auto is_one_of = [](int value, std::initializer_list<int> all) {
    return std::find(all.begin(), all.end(), value) != all.end();
  };
  if (!is_one_of(spec.bits, {2, 3, 4, 5, 6, 8})) {
    refuse("bits", std::to_string(spec.bits), "2, 3, 4, 5, 6 or 8");
  }
  if (!is_one_of(spec.group, {16, 32, 64, 128})) {
    refuse("group", std::to_string(spec.group), "16, 32, 64 or 128");
  }
  if (spec.outputs < 0) refuse("outputs", std::to_string(spec.outputs), "0 or more");
  if (spec.inputs < 0 || spec.inputs % spec.group != 0) {
    refuse("inputs", std::to_string(spec.inputs), "a multiple of " + std::to_string(spec.group));
  }
}

void check(const DenseSpec& spec) {
  if (spec.outputs < 0) refuse("outputs", std::to_string(spec.outputs), "0 or more");
  if (spec.inputs < 0) refuse("inputs", std::to_string(spec.inputs), "0 or more");
}

/** Values of one group as whole bytes' worth of bits, lowest first, in words of wider values. */
void pack_words(const uint8_t* bits_at, int bits, int wide, int count, uint8_t* group_at,
                int lane) {
  const int per_word = 32 / wide;
  for (int word = 0; word < count / per_word; word++) {
    uint32_t packed = 0;
    if (bits == wide) {
      memcpy(&packed, bits_at + size_t(word) * 4, 4);
    } else {
      for (int i = 0; i < per_word; i++) {
        const int first = (word * per_word + i) * bits;
        uint32_t value = bits_at[first / 8];
        if (first % 8 + bits > 8) value |= uint32_t(bits_at[first / 8 + 1]) << 8;
        packed |= (value >> (first % 8) & ((1u << bits) - 1)) << (i * wide);
      }
    }
    set_word(group_at, word, lane, packed);
  }
}

}  // namespace

size_t packed_bytes(const MatrixSpec& spec) {
  check(spec);
  return panel_bytes(spec) * panel_count(spec.outputs);
}

size_t packed_bytes(const DenseSpec& spec) {
  check(spec);
  return panel_bytes(spec) * panel_count(spec.outputs);
}

void pack_affine(const MatrixSpec& spec, const AffineRows& source, int row_begin, int row_end,
                 uint8_t* dst) {
  const int groups = spec.inputs / spec.group, wide = packed_bits(spec.bits);
  const size_t unit = dtype_bytes(spec.scales), record = group_bytes(spec);
  const size_t source_group = size_t(spec.group) * spec.bits / 8;
  const size_t words_bytes = record - 2 * PANEL * unit;
  const auto* words = static_cast<const uint8_t*>(source.words);
  const auto* scales = static_cast<const uint8_t*>(source.scales);
  const auto* biases = static_cast<const uint8_t*>(source.biases);
  for (int first = row_begin; first < row_end;) {
    const int next = std::min(row_end, (first / PANEL + 1) * PANEL);
    uint8_t* group_at = dst + panel_bytes(spec) * (first / PANEL);
    for (int group = 0; group < groups; group++, group_at += record) {
      for (int row = first; row < next; row++) {
        const size_t index = size_t(row - row_begin) * groups + group;
        const int lane = row % PANEL;
        pack_words(words + index * source_group, spec.bits, wide, spec.group, group_at, lane);
        uint8_t* scale_at = group_at + words_bytes + lane * unit;
        memcpy(scale_at, scales + index * unit, unit);
        memcpy(scale_at + PANEL * unit, biases + index * unit, unit);
      }
    }
    first = next;
  }
  if (row_end == spec.outputs) clear_padding(spec, dst);
}

void clear_padding(const MatrixSpec& spec, uint8_t* dst) {
  const int used = spec.outputs % PANEL;
  if (used == 0) return;
  const size_t unit = dtype_bytes(spec.scales), record = group_bytes(spec);
  const size_t words = (record - 2 * PANEL * unit) / (PANEL * 4);
  uint8_t* group_at = dst + panel_bytes(spec) * (panel_count(spec.outputs) - 1);
  for (int group = 0; group < spec.inputs / spec.group; group++, group_at += record) {
    for (size_t word = 0; word < words; word++) {
      memset(group_at + (word * PANEL + used) * 4, 0, size_t(PANEL - used) * 4);
    }
    uint8_t* scale_at = group_at + words * PANEL * 4 + used * unit;
    memset(scale_at, 0, (PANEL - used) * unit);
    memset(scale_at + PANEL * unit, 0, (PANEL - used) * unit);
  }
}

void pack_dense(const DenseSpec& spec, const void* source, int row_begin, int row_end,
                uint8_t* dst) {
  const size_t unit = dtype_bytes(spec.dtype), inputs = size_t(spec.inputs);
  const auto* rows = static_cast<const uint8_t*>(source);
  for (int first = row_begin; first < row_end;) {
    const int next = std::min(row_end, (first / PANEL + 1) * PANEL);
    uint8_t* panel = dst + panel_bytes(spec) * (first / PANEL);
    for (size_t k = 0; k < inputs; k++) {
      for (int row = first; row < next; row++) {
        const uint8_t* at = rows + (size_t(row - row_begin) * inputs + k) * unit;
        memcpy(panel + (k * PANEL + row % PANEL) * unit, at, unit);
      }
    }
    first = next;
  }
  const int used = spec.outputs % PANEL;
  if (row_end != spec.outputs || used == 0) return;
  uint8_t* panel = dst + panel_bytes(spec) * (panel_count(spec.outputs) - 1);
  for (size_t k = 0; k < inputs; k++)
    memset(panel + (k * PANEL + used) * unit, 0, (PANEL - used) * unit);
}

}  // namespace exo::kernels
