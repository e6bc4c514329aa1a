#include "pack_gguf.h"

#include <stdexcept>
#include <string>

namespace exo::kernels {
namespace {

/** One group in affine form. */
struct Group {
  uint8_t q[32];
  float scale;
  float bias;
};

struct Format {
  int block_values;
  int block_bytes;
  int bits;
  int group;
  Dtype scales;
  void (*decode)(const uint8_t* block, int group, Group& out);
};

float half_at(const uint8_t* at) { return f16_to_f32(uint16_t(at[0] | at[1] << 8)); }

/** A symmetric type's values lie around a middle. */
void set_symmetric(Group& out, float scale, float middle) {
  out.scale = scale;
  out.bias = -middle * scale;
}

/** 32 nibbles: the low ones first, then the high ones. */
void decode_nibbles(const uint8_t* at, Group& out) {
  for (int i = 0; i < 16; i++) {
    out.q[i] = at[i] & 15;
    out.q[i + 16] = at[i] >> 4;
  }
}

/** The fifth bits of 32 values, one bit each. */
void add_fifth_bits(const uint8_t* at, Group& out) {
  for (int i = 0; i < 32; i++) out.q[i] |= uint8_t((at[i / 8] >> (i % 8) & 1) << 4);
}

void decode_q4_0(const uint8_t* block, int, Group& out) {
  decode_nibbles(block + 2, out);
  set_symmetric(out, half_at(block), 8);
}

void decode_q4_1(const uint8_t* block, int, Group& out) {
  decode_nibbles(block + 4, out);
  out.scale = half_at(block);
  out.bias = half_at(block + 2);
}

void decode_q5_0(const uint8_t* block, int, Group& out) {
  decode_nibbles(block + 6, out);
  add_fifth_bits(block + 2, out);
  set_symmetric(out, half_at(block), 16);
}

void decode_q5_1(const uint8_t* block, int, Group& out) {
  decode_nibbles(block + 8, out);
  add_fifth_bits(block + 4, out);
  out.scale = half_at(block);
  out.bias = half_at(block + 2);
}

void decode_q8_0(const uint8_t* block, int, Group& out) {
  for (int i = 0; i < 32; i++) out.q[i] = block[2 + i] ^ 0x80;  // Two's complement plus 128.
  set_symmetric(out, half_at(block), 128);
}

/** Where a group of 16 lies in Q2_K, Q3_K and Q6_K: 128 values, 4 bit fields of 2 x 16 each. */
struct Sixteen {
  explicit Sixteen(int group) : half(group / 8), field(group % 8 / 2), first(group % 2 * 16) {}
  int half, field, first;
};

void decode_q2_k(const uint8_t* block, int group, Group& out) {
  const Sixteen at(group);
  const uint8_t* values = block + 16 + at.half * 32 + at.first;
  for (int i = 0; i < 16; i++) out.q[i] = values[i] >> (2 * at.field) & 3;
  out.scale = half_at(block + 80) * float(block[group] & 15);
  out.bias = -half_at(block + 82) * float(block[group] >> 4);
}

void decode_q3_k(const uint8_t* block, int group, Group& out) {
  const Sixteen at(group);
  const uint8_t* values = block + 32 + at.half * 32 + at.first;
  const uint8_t* high = block + at.first;
  for (int i = 0; i < 16; i++) {
    const int third = high[i] >> (at.half * 4 + at.field) & 1;
    out.q[i] = uint8_t((values[i] >> (2 * at.field) & 3) | third << 2);
  }
  const uint8_t* scales = block + 96;
  const int low = scales[group % 8] >> (4 * (group / 8)) & 15;
  const int scale = low | (scales[8 + group % 4] >> (2 * (group / 4)) & 3) << 4;
  set_symmetric(out, half_at(block + 108) * float(scale - 32), 4);
}

/** The 6-bit scale and minimum of a group of Q4_K and Q5_K, whose f16 factors begin the block. */
void set_scale_and_minimum(const uint8_t* block, int group, Group& out) {
  const uint8_t* packed = block + 4;
  int scale = packed[group % 4] & 63, minimum = packed[group % 4 + 4] & 63;
  if (group >= 4) {
    const uint8_t low = packed[group + 4];
    scale = (low & 15) | packed[group - 4] >> 6 << 4;
    minimum = low >> 4 | packed[group] >> 6 << 4;
  }
  out.scale = half_at(block) * float(scale);
  out.bias = -half_at(block + 2) * float(minimum);
}

void decode_q4_k(const uint8_t* block, int group, Group& out) {
  const uint8_t* values = block + 16 + group / 2 * 32;
  for (int i = 0; i < 32; i++) out.q[i] = values[i] >> (group % 2 * 4) & 15;
  set_scale_and_minimum(block, group, out);
}

void decode_q5_k(const uint8_t* block, int group, Group& out) {
  const uint8_t* values = block + 48 + group / 2 * 32;
  for (int i = 0; i < 32; i++) {
    const int fifth = block[16 + i] >> group & 1;
    out.q[i] = uint8_t((values[i] >> (group % 2 * 4) & 15) | fifth << 4);
  }
  set_scale_and_minimum(block, group, out);
}

void decode_q6_k(const uint8_t* block, int group, Group& out) {
  const Sixteen at(group);
  const uint8_t* low = block + at.half * 64 + at.field % 2 * 32 + at.first;
  const uint8_t* high = block + 128 + at.half * 32 + at.first;
  for (int i = 0; i < 16; i++) {
    const int four = low[i] >> (at.field / 2 * 4) & 15;
    out.q[i] = uint8_t(four | (high[i] >> (2 * at.field) & 3) << 4);
  }
  const float scale = float(int8_t(block[192 + group]));
  set_symmetric(out, half_at(block + 208) * scale, 32);
}

const Format& format_of(GgmlType type) {
  static const Format formats[] = {
      {32, 18, 4, 32, Dtype::f16, decode_q4_0},   {32, 20, 4, 32, Dtype::f16, decode_q4_1},
      {32, 22, 5, 32, Dtype::f16, decode_q5_0},   {32, 24, 5, 32, Dtype::f16, decode_q5_1},
      {32, 34, 8, 32, Dtype::f16, decode_q8_0},   {256, 84, 2, 16, Dtype::f32, decode_q2_k},
      {256, 110, 3, 16, Dtype::f32, decode_q3_k}, {256, 144, 4, 32, Dtype::f32, decode_q4_k},
      {256, 176, 5, 32, Dtype::f32, decode_q5_k}, {256, 210, 6, 16, Dtype::f32, decode_q6_k},
  };
  return formats[int(type)];
}

void store_scale(Dtype dtype, uint8_t* scales, int lane, float value) {
  const uint16_t half = f32_to_f16(value);
  if (dtype == Dtype::f32) memcpy(scales + size_t(lane) * 4, &value, 4);
  else memcpy(scales + size_t(lane) * 2, &half, 2);
}

/** Eight values of one byte each, of 4 bits or 2, side by side. */
uint32_t join_nibbles(const uint8_t* q) {
  uint64_t values;
  memcpy(&values, q, 8);
  values = (values | values >> 4) & 0x00ff00ff00ff00ff;
  values = (values | values >> 8) & 0x0000ffff0000ffff;
  return uint32_t(values | values >> 16);
}

uint32_t join_pairs(const uint8_t* q) {
  uint64_t values;
  memcpy(&values, q, 8);
  values = (values | values >> 6) & 0x000f000f000f000f;
  values = (values | values >> 12) & 0x000000ff000000ff;
  return uint32_t((values | values >> 24) & 0xffff);
}

/** A word of a group: lowest values first. */
uint32_t word_of(const uint8_t* q, int bits, int word) {
  if (bits == 4) return join_nibbles(q + word * 8);
  if (bits == 2) return join_pairs(q + word * 16) | join_pairs(q + word * 16 + 8) << 16;
  uint32_t packed;
  memcpy(&packed, q + word * 4, 4);
  return packed;
}

/** Writes a group into its lane of a packed panel. */
void store_group(const MatrixSpec& spec, const Group& group, uint8_t* group_at, int lane) {
  const int bits = packed_bits(spec.bits), words = spec.group * bits / 32;
  for (int word = 0; word < words; word++) {
    set_word(group_at, word, lane, word_of(group.q, bits, word));
  }
  uint8_t* scales = group_at + size_t(words) * PANEL * 4;
  store_scale(spec.scales, scales, lane, group.scale);
  store_scale(spec.scales, scales + PANEL * dtype_bytes(spec.scales), lane, group.bias);
}

}  // namespace

MatrixSpec gguf_spec(GgmlType type, int outputs, int inputs) {
  const Format& format = format_of(type);
  if (inputs % format.block_values != 0) {
    throw std::invalid_argument("Cannot pack a GGUF tensor: inputs " + std::to_string(inputs) +
                                ", a multiple of " + std::to_string(format.block_values) +
                                " needed");
  }
  return {outputs, inputs, format.bits, format.group, format.scales};
}

size_t gguf_row_bytes(GgmlType type, int inputs) {
  const Format& format = format_of(type);
  return size_t(inputs / format.block_values) * size_t(format.block_bytes);
}

int gguf_block_values(GgmlType type) { return format_of(type).block_values; }

void pack_gguf(GgmlType type, const MatrixSpec& spec, const GgufRows& source, int row_begin,
               int row_end, uint8_t* dst) {
  const Format& format = format_of(type);
  const auto* rows = static_cast<const uint8_t*>(source.blocks);
  const size_t record = group_bytes(spec);
  const int per_block = format.block_values / format.group;
  Group decoded;
  for (int row = row_begin; row < row_end; row++) {
    const uint8_t* block = rows + source.row_bytes * size_t(row - row_begin);
    uint8_t* group_at = dst + panel_bytes(spec) * size_t(row / PANEL);
    for (int i = 0; i < spec.inputs / spec.group; i++, group_at += record) {
      const int group = source.first_group + i;
      format.decode(block + size_t(group / per_block) * size_t(format.block_bytes),
                    group % per_block, decoded);
      store_group(spec, decoded, group_at, row % PANEL);
    }
  }
  if (row_end == spec.outputs) clear_padding(spec, dst);
}

}  // namespace exo::kernels
