// See activation.h.
#pragma once
#include "activation.h"
#include "rows_math.h"

namespace exo::kernels::EXO_ISA {

EXO_LARGE_INLINE Lanes silu(Lanes x) { return x / (lanes(1) + exp(lanes(0) - x)); }
EXO_LARGE_INLINE Lanes gelu(Lanes x) { return x * normal_cdf(x); }
/** (1 + tanh(y)) / 2 is 1 / (1 + exp(-2y)). */
EXO_LARGE_INLINE Lanes gelu_tanh(Lanes x) {
  const Lanes twice = x * fma(x * x, lanes(0.0713548162726f), 1.59576912161f);
  return x / (lanes(1) + exp(lanes(0) - twice));
}

template <bool BINARY, class F2>
EXO_INLINE void for_each_element(const ElementwiseArgs& args, int begin, int end, F2 f) {
  for (int row = begin; row < end; row++) {
    const float* a = row_of(args.a, row);
    const float* b = BINARY ? row_of(args.b, row) : a;
    float* out = row_of(args.out, row);
    int k = 0;
    for (; k + LANES <= args.width; k += LANES) {
      store_lanes(out + k, f(load_lanes(a + k), BINARY ? load_lanes(b + k) : lanes(0)));
    }
    const int count = args.width - k;
    if (count > 0) store_some(out + k, f(load_some(a + k, count), load_some(b + k, count)), count);
  }
}

#define EXO_UNARY(name, expression) \
  case Elementwise::name:           \
    return for_each_element<false>(args, begin, end, [&](Lanes a, Lanes) { return expression; })
#define EXO_BINARY(name, expression) \
  case Elementwise::name:            \
    return for_each_element<true>(args, begin, end, [&](Lanes a, Lanes b) { return expression; })

static void elementwise(Elementwise function, const ElementwiseArgs& args, int begin, int end) {
  switch (function) {
    EXO_BINARY(add, a + b);
    EXO_BINARY(multiply, a * b);
    EXO_UNARY(scale, a * lanes(args.scalar));
    EXO_UNARY(silu, silu(a));
    EXO_BINARY(swiglu, silu(a) * b);
    EXO_UNARY(gelu, gelu(a));
    EXO_BINARY(geglu, gelu(a) * b);
    EXO_UNARY(gelu_tanh, gelu_tanh(a));
    EXO_BINARY(geglu_tanh, gelu_tanh(a) * b);
    EXO_UNARY(sigmoid, sigmoid(a));
    EXO_UNARY(tanh, tanh(a));
    EXO_UNARY(softcap, lanes(args.scalar) * tanh(a / lanes(args.scalar)));
    EXO_UNARY(exp, exp(a));
  }
}

#undef EXO_UNARY
#undef EXO_BINARY

}  // namespace exo::kernels::EXO_ISA
