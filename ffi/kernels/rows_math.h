// exp, tanh and the normal distribution on 16 lanes: the same bits on every instruction set.
// The polynomials are own minimax fits (weighted least squares, reweighted until level, in f64);
// each comment gives the fit's error, to which f32 evaluation adds about 1 ulp.
#pragma once
#include "rows_lanes.h"

namespace exo::kernels::EXO_ISA {

constexpr float LOG2_E = 1.44269504f;
// ln 2 in two parts; the first has zeros at its end, so that its product with n is exact.
constexpr float LN2_HIGH = 0x1.62e4p-1f;
constexpr float LN2_LOW = 0x1.7f7d1cp-20f;
// Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
constexpr float ROUNDER = 12582912.0f;

struct ExpParts {
  Lanes fraction;  // exp(x - n ln 2), in [0.7, 1.42].
  Lanes shifted;   // n in its low bits.
};

/** For x within ±200. Fit of (exp(r) - 1 - r) / r^2 on ±ln(2)/2: 3.1e-9 of exp(r). */
EXO_LARGE_INLINE ExpParts exp_parts(Lanes x) {
  const Lanes shifted = fma(x, lanes(LOG2_E), ROUNDER);
  const Lanes n = shifted - lanes(ROUNDER);
  const Lanes r = fma(n, lanes(-LN2_LOW), fma(n, lanes(-LN2_HIGH), x));
  Lanes p = lanes(0.0013814599f);
  p = fma(p, r, 0.008368717f);
  p = fma(p, r, 0.04166839f);
  p = fma(p, r, 0.16666521f);
  p = fma(p, r, 0.49999994f);
  return {fma(fma(p, r, 1.0f), r, 1.0f), shifted};
}

/** exp(x), within 2 ulp over all of f32; 0, Inf and NaN as IEEE has them. */
EXO_LARGE_INLINE Lanes exp(Lanes x) {
  // The order of operands lets NaN through.
  const ExpParts parts = exp_parts(min(lanes(89.0f), max(lanes(-104.0f), x)));
  Lanes result = parts.fraction;
  // In two steps, since 2^n alone is no f32 near both ends.
  EXO_EACH_PART(const I n = I(parts.shifted.part[i]) - I(broadcast(ROUNDER));
                const I first = n >> 1, second = n - first;
                result.part[i] = result.part[i] * F((first + 127) << 23);
                result.part[i] = result.part[i] * F((second + 127) << 23))
  return result;
}

/**
 * exp(x) for the weights of a softmax: x <= 0 or NaN. Below -87 it is +0: such a weight is less
 * than 2^-125 of the largest, and subnormals would only slow the machine down.
 */
EXO_LARGE_INLINE Lanes exp_weight(Lanes x) {
  const ExpParts parts = exp_parts(x);
  Lanes result = parts.fraction;
  // The shift drops all of ROUNDER's bits and leaves n in the exponent.
  EXO_EACH_PART(result.part[i] =
                    result.part[i] * F((U(parts.shifted.part[i]) << 23) + 0x3f800000u))
  return select(x < lanes(-87.0f), lanes(0), result);
}

/** tanh(x), within 3 ulp. Fit of (tanh(x) - x) / x^3 on ±0.625: 4.4e-9 of tanh(x). */
EXO_LARGE_INLINE Lanes tanh(Lanes x) {
  const Lanes size = abs(x), square = x * x;
  Lanes p = lanes(-0.0057049873f);
  p = fma(p, square, 0.020639088f);
  p = fma(p, square, -0.053739715f);
  p = fma(p, square, 0.13331442f);
  p = fma(p, square, -0.3333328f);
  const Lanes near = fma(p * square, x, x);
  const Lanes far = lanes(1) - lanes(2) / (exp(size + size) + lanes(1));
  return with_sign(select(size < lanes(0.625f), near, far), x);  // -0 too.
}

/** 1 / (1 + exp(-x)). */
EXO_LARGE_INLINE Lanes sigmoid(Lanes x) { return lanes(1) / (lanes(1) + exp(lanes(0) - x)); }

/**
 * The normal distribution function, (1 + erf(x / sqrt 2)) / 2, within 2e-7.
 * Fit of Q(z) exp(z^2 / 2) / t with t = 1 / (1 + 0.25 z) on [0, 13]: 1.9e-9 of 1.
 */
EXO_LARGE_INLINE Lanes normal_cdf(Lanes x) {
  const Lanes z = abs(x);
  const Lanes t = lanes(1) / fma(z, lanes(0.25f), 1.0f);
  Lanes p = lanes(-0.08645231f);
  p = fma(p, t, 0.31546333f);
  p = fma(p, t, -0.21194221f);
  p = fma(p, t, 0.21967188f);
  p = fma(p, t, 0.06321997f);
  p = fma(p, t, 0.09947904f);
  p = fma(p, t, 0.10056031f);
  const Lanes tail = exp(z * z * lanes(-0.5f)) * (t * p);
  return select(x > lanes(0), lanes(1) - tail, tail);
}

}  // namespace exo::kernels::EXO_ISA
