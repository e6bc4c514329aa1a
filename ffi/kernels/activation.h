// Functions of one or two rows, element by element.
#pragma once
#include "rows_view.h"

namespace exo::kernels {

/** Which function; a and b are elements of the rows of ElementwiseArgs. */
enum class Elementwise {
  add,         // a + b
  multiply,    // a * b
  scale,       // a * scalar
  silu,        // a / (1 + exp(-a))
  swiglu,      // silu(a) * b; source: arXiv:2002.05202
  gelu,        // a * Phi(a), the exact form; source: arXiv:1606.08415
  geglu,       // gelu(a) * b
  gelu_tanh,   // a * (1 + tanh(sqrt(2 / pi) * (a + 0.044715 a^3))) / 2
  geglu_tanh,  // gelu_tanh(a) * b
  sigmoid,     // 1 / (1 + exp(-a))
  tanh,        // tanh(a)
  softcap,     // scalar * tanh(a / scalar), as Gemma 2 caps its logits
  exp,         // exp(a)
};

/** out[i] = f(a[i], b[i]) for `width` elements a row. `out` may be `a` or `b`. */
struct ElementwiseArgs {
  ConstRows a;
  ConstRows b;  // Not used by functions of one row.
  Rows out;
  int width = 0;
  float scalar = 0;
};

}  // namespace exo::kernels
