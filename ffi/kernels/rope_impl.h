// See rope.h. The table's members are not inline, lest the linker keep a copy of the standard
// library's code that was compiled for one instruction set.
#pragma once
#include "rope.h"
#include "rows_lanes.h"

namespace exo::kernels::EXO_ISA {

/** (a, b) turned by the angle whose cosine and sine are given. */
EXO_INLINE void turn(float a, float b, float cosine, float sine, float* a_out, float* b_out) {
  *a_out = __builtin_fmaf(a, cosine, 0.0f - b * sine);
  *b_out = __builtin_fmaf(a, sine, b * cosine);
}

EXO_INLINE void turn_halves(const float* x, float* out, const float* table, int pairs) {
  const float *cosines = table, *sines = table + pairs;
  int i = 0;
  for (; i + LANES <= pairs; i += LANES) {
    const Lanes a = load_lanes(x + i), b = load_lanes(x + pairs + i);
    const Lanes cosine = load_lanes(cosines + i), sine = load_lanes(sines + i);
    store_lanes(out + i, fma(a, cosine, lanes(0) - b * sine));
    store_lanes(out + pairs + i, fma(a, sine, b * cosine));
  }
  for (; i < pairs; i++) turn(x[i], x[pairs + i], cosines[i], sines[i], out + i, out + pairs + i);
}

EXO_INLINE void turn_neighbours(const float* x, float* out, const float* table, int pairs) {
  for (int i = 0; i < pairs; i++) {
    turn(x[2 * i], x[2 * i + 1], table[i], table[pairs + i], out + 2 * i, out + 2 * i + 1);
  }
}

static void rope(const RopeArgs& args, int begin, int end) {
  const int pairs = args.table->pairs();
  for (int row = begin; row < end; row++) {
    const float* table = args.table->row(args.positions[row]);
    const float* x = row_of(args.x, row);
    float* out = row_of(args.out, row);
    for (int head = 0; head < args.heads; head++, x += args.head_dim, out += args.head_dim) {
      if (args.traditional) turn_neighbours(x, out, table, pairs);
      else turn_halves(x, out, table, pairs);
      if (x == out) continue;
      for (int i = 2 * pairs; i < args.head_dim; i++) out[i] = x[i];
    }
  }
}

}  // namespace exo::kernels::EXO_ISA
