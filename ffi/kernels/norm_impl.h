// See norm.h.
#pragma once
#include "norm.h"
#include "rows_lanes.h"

namespace exo::kernels::EXO_ISA {

/** Sum of (x - shift)^2. The padding of the last 16 counts as `shift`, hence adds nothing. */
EXO_LARGE_INLINE float sum_of_squares(const float* x, int width, float shift) {
  Lanes sum = lanes(0);
  for (int k = 0; k < width; k += LANES) {
    const Lanes d = load_some(x + k, width - k, shift) - lanes(shift);
    sum = fma(d, d, sum);
  }
  return sum_lanes(sum);
}

EXO_LARGE_INLINE float inverse_root(float squares, int width, float eps) {
  return 1.0f / __builtin_sqrtf(squares / float(width) + eps);
}

/** out = (x - shift) * factor * weight + bias. */
EXO_LARGE_INLINE void scale_row(const NormArgs& args, const float* x, float* out, float shift,
                          float factor) {
  for (int k = 0; k < args.width; k += LANES) {
    const int count = args.width - k;
    Lanes v = (load_some(x + k, count) - lanes(shift)) * lanes(factor);
    if (args.weight != nullptr) v = v * load_some(args.weight + k, count);
    if (args.bias != nullptr) v = v + load_some(args.bias + k, count);
    store_some(out + k, v, count);
  }
}

static void rms_norm_piece(const NormArgs& args, const float* x, float* out) {
  const float squares = sum_of_squares(x, args.width, 0);
  scale_row(args, x, out, 0, inverse_root(squares, args.width, args.eps));
}

static void layer_norm_piece(const NormArgs& args, const float* x, float* out) {
  Lanes sum = lanes(0);
  for (int k = 0; k < args.width; k += LANES) sum = sum + load_some(x + k, args.width - k);
  const float mean = sum_lanes(sum) / float(args.width);
  const float squares = sum_of_squares(x, args.width, mean);
  scale_row(args, x, out, mean, inverse_root(squares, args.width, args.eps));
}

static void rms_norm(const NormArgs& args, int begin, int end) {
  for (int row = begin; row < end; row++) {
    for (int head = 0; head < args.heads; head++) {
      const size_t at = size_t(head) * args.width;
      rms_norm_piece(args, row_of(args.x, row) + at, row_of(args.out, row) + at);
    }
  }
}

static void layer_norm(const NormArgs& args, int begin, int end) {
  for (int row = begin; row < end; row++) {
    for (int head = 0; head < args.heads; head++) {
      const size_t at = size_t(head) * args.width;
      layer_norm_piece(args, row_of(args.x, row) + at, row_of(args.out, row) + at);
    }
  }
}

static void add_rms_norm(const AddNormArgs& args, int begin, int end) {
  for (int row = begin; row < end; row++) {
    const float *x = row_of(args.x, row), *residual = row_of(args.residual, row);
    float *sum = row_of(args.sum, row), *out = row_of(args.norm.out, row);
    const int width = args.norm.width * args.norm.heads;
    for (int k = 0; k < width; k += LANES) {
      const int count = width - k;
      store_some(sum + k, load_some(x + k, count) + load_some(residual + k, count), count);
    }
    for (int head = 0; head < args.norm.heads; head++) {
      const size_t at = size_t(head) * args.norm.width;
      rms_norm_piece(args.norm, sum + at, out + at);
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
