// Sixteen logical lanes on any instruction set. A row's arithmetic is written in terms of these, so
// that its partial sums are cut in the same way whatever the width of the machine's registers.
// Include after one of the simd_*.h headers.
#pragma once
#include "dtype.h"

#ifndef EXO_ISA
#error "include a simd_*.h header first"
#endif

// Full unrolling turns small arrays into registers, and functions of many instructions are inlined
// where they are used in loops. Not under a sanitizer, which would take a minute to compile that.
#if defined(__SANITIZE_ADDRESS__)
#define EXO_UNROLL
#define EXO_LARGE_INLINE static __attribute__((noinline, unused))
#elif defined(__clang__)
#define EXO_UNROLL _Pragma("clang loop unroll(full)")
#define EXO_LARGE_INLINE EXO_INLINE
#else
#define EXO_UNROLL _Pragma("GCC unroll 32")
#define EXO_LARGE_INLINE EXO_INLINE
#endif
// For each part i, written out: GCC keeps a structure in registers only if no loop indexes it.
#define EXO_EACH_PART(...)                                                 \
  {                                                                        \
    { constexpr int i = 0; __VA_ARGS__; }                                  \
    if constexpr (PARTS > 1) { constexpr int i = 1 % PARTS; __VA_ARGS__; } \
    if constexpr (PARTS > 2) { constexpr int i = 2 % PARTS; __VA_ARGS__; } \
    if constexpr (PARTS > 3) { constexpr int i = 3 % PARTS; __VA_ARGS__; } \
  }

namespace exo::kernels::EXO_ISA {

/** Logical lanes: a row's element k belongs to lane k mod 16. */
constexpr int LANES = 16;
/** Registers that hold them. */
constexpr int PARTS = LANES / WIDTH;

struct Lanes {
  F part[PARTS];
};
/** All bits of a lane set: true; none: false. */
struct Mask {
  I part[PARTS];
};

#define EXO_LANES_OPERATOR(op)                        \
  EXO_INLINE Lanes operator op(Lanes a, Lanes b) {    \
    EXO_EACH_PART(a.part[i] = a.part[i] op b.part[i]) \
    return a;                                         \
  }
EXO_LANES_OPERATOR(+)
EXO_LANES_OPERATOR(-)
EXO_LANES_OPERATOR(*)
EXO_LANES_OPERATOR(/)
#undef EXO_LANES_OPERATOR

#define EXO_LANES_COMPARE(op)                            \
  EXO_INLINE Mask operator op(Lanes a, Lanes b) {        \
    Mask r;                                              \
    EXO_EACH_PART(r.part[i] = I(a.part[i] op b.part[i])) \
    return r;                                            \
  }
EXO_LANES_COMPARE(>)
EXO_LANES_COMPARE(<)
#undef EXO_LANES_COMPARE

EXO_INLINE Lanes lanes(float x) {
  Lanes r;
  EXO_EACH_PART(r.part[i] = broadcast(x))
  return r;
}
EXO_INLINE Lanes load_lanes(const float* p) {
  Lanes r;
  EXO_EACH_PART(r.part[i] = load(p + i * WIDTH))
  return r;
}
EXO_INLINE void store_lanes(float* p, Lanes v) { EXO_EACH_PART(store(p + i * WIDTH, v.part[i])) }

/** The first `count` (1 to 16) elements, then zeros; reads no further. */
EXO_LARGE_INLINE Lanes load_some(const float* p, int count, float rest = 0) {
  if (count >= LANES) return load_lanes(p);
  float buffer[LANES];
  for (int i = 0; i < LANES; i++) buffer[i] = i < count ? p[i] : rest;
  return load_lanes(buffer);
}
/** Writes the first `count` (1 to 16) lanes. */
EXO_LARGE_INLINE void store_some(float* p, Lanes v, int count) {
  if (count >= LANES) return store_lanes(p, v);
  float buffer[LANES];
  store_lanes(buffer, v);
  for (int i = 0; i < count; i++) p[i] = buffer[i];
}

/** a * b + c with one rounding. */
EXO_LARGE_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
  EXO_EACH_PART(a.part[i] = fma(a.part[i], b.part[i], c.part[i]))
  return a;
}
EXO_INLINE Lanes fma(Lanes a, Lanes b, float c) { return fma(a, b, lanes(c)); }
EXO_LARGE_INLINE Lanes select(Mask mask, Lanes yes, Lanes no) {
  EXO_EACH_PART(yes.part[i] = select(mask.part[i], yes.part[i], no.part[i]))
  return yes;
}
EXO_INLINE Lanes abs(Lanes v) {
  EXO_EACH_PART(v.part[i] = abs(v.part[i]))
  return v;
}
/** a > b ? a : b (so b where either is NaN). */
EXO_LARGE_INLINE Lanes max(Lanes a, Lanes b) {
  EXO_EACH_PART(a.part[i] = max(a.part[i], b.part[i]))
  return a;
}
/** a < b ? a : b (so b where either is NaN). */
EXO_INLINE Lanes min(Lanes a, Lanes b) {
  EXO_EACH_PART(a.part[i] = min(a.part[i], b.part[i]))
  return a;
}
/** The size of `size`, the sign of `sign`. */
EXO_INLINE Lanes with_sign(Lanes size, Lanes sign) {
  EXO_EACH_PART(const I bit = I(sign.part[i]) & int32_t(0x80000000);
                size.part[i] = F((I(size.part[i]) & 0x7fffffff) | bit))
  return size;
}
/** Lanes from..to-1 true. */
EXO_LARGE_INLINE Mask lanes_between(int from, int to) {
  int32_t buffer[LANES];
  for (int i = 0; i < LANES; i++) buffer[i] = i >= from && i < to ? -1 : 0;
  Mask r;
  EXO_EACH_PART(r.part[i] = load_i(buffer + i * WIDTH))
  return r;
}

/** All lanes to one by one fixed tree: lane i with i + 8, the results with i + 4, + 2, + 1. */
template <class Op>
EXO_INLINE float fold_lanes(Lanes v, Op op) {
  const auto last_four = [&](auto x) {
    const auto two = op(__builtin_shufflevector(x, x, 0, 1), __builtin_shufflevector(x, x, 2, 3));
    return op(two, __builtin_shufflevector(two, two, 1, 0))[0];
  };
  const auto last_eight = [&](auto x) {
    return last_four(op(__builtin_shufflevector(x, x, 0, 1, 2, 3),
                        __builtin_shufflevector(x, x, 4, 5, 6, 7)));
  };
  if constexpr (PARTS == 4) {
    return last_four(op(op(v.part[0], v.part[2]), op(v.part[1], v.part[3 % PARTS])));
  } else if constexpr (PARTS == 2) {
    return last_eight(op(v.part[0], v.part[1]));
  } else {
    const auto last_sixteen = [&](auto x) {
      return last_eight(op(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7),
                           __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15)));
    };
    return last_sixteen(v.part[0]);
  }
}

EXO_LARGE_INLINE float sum_lanes(Lanes v) {
  return fold_lanes(v, [](auto a, auto b) { return a + b; });
}
/** The largest lane; a NaN may be left out. */
EXO_LARGE_INLINE float max_lanes(Lanes v) {
  return fold_lanes(v, [](auto a, auto b) { return a > b ? a : b; });
}

}  // namespace exo::kernels::EXO_ISA
