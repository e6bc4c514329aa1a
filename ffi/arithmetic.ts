/**
 * Arithmetic, comparisons and logic, element by element, with broadcasting. Beside a tensor, a
 * number takes that tensor's type; a fraction beside integers makes both float32. Comparisons give
 * bool.
 *
 * @module
 */
import { native } from "./bind.ts";
import { Tensor, wrap } from "./tensor.ts";

/** A tensor, or a number beside one. */
export type Operand = Tensor | number;

/** The handle of a tensor; 0, which is none, for a number. */
function handleOf(x: Operand): number {
  return typeof x === "number" ? 0 : x.handle;
}

/** The number among two operands, if one is. */
function numberOf(a: Operand, b: Operand): number {
  return typeof a === "number" ? a : typeof b === "number" ? b : 0;
}

/** -x. */
export function negative(x: Tensor): Tensor {
  return wrap("shim_negative", native().shim_negative(x.handle));
}

/** |x|. */
export function abs(x: Tensor): Tensor {
  return wrap("shim_abs", native().shim_abs(x.handle));
}

/** x². */
export function square(x: Tensor): Tensor {
  return wrap("shim_square", native().shim_square(x.handle));
}

/** √x. */
export function sqrt(x: Tensor): Tensor {
  return wrap("shim_sqrt", native().shim_sqrt(x.handle));
}

/** 1 / √x. */
export function rsqrt(x: Tensor): Tensor {
  return wrap("shim_rsqrt", native().shim_rsqrt(x.handle));
}

/** 1 / x. */
export function reciprocal(x: Tensor): Tensor {
  return wrap("shim_reciprocal", native().shim_reciprocal(x.handle));
}

/** eˣ. */
export function exp(x: Tensor): Tensor {
  return wrap("shim_exp", native().shim_exp(x.handle));
}

/** The natural logarithm of x. */
export function log(x: Tensor): Tensor {
  return wrap("shim_log", native().shim_log(x.handle));
}

/** log(1 + x), exact for small x. */
export function log1p(x: Tensor): Tensor {
  return wrap("shim_log1p", native().shim_log1p(x.handle));
}

/** sin x, x in radians. */
export function sin(x: Tensor): Tensor {
  return wrap("shim_sin", native().shim_sin(x.handle));
}

/** cos x, x in radians. */
export function cos(x: Tensor): Tensor {
  return wrap("shim_cos", native().shim_cos(x.handle));
}

/** tanh x. */
export function tanh(x: Tensor): Tensor {
  return wrap("shim_tanh", native().shim_tanh(x.handle));
}

/** 1 / (1 + e⁻ˣ). */
export function sigmoid(x: Tensor): Tensor {
  return wrap("shim_sigmoid", native().shim_sigmoid(x.handle));
}

/** The error function of x. */
export function erf(x: Tensor): Tensor {
  return wrap("shim_erf", native().shim_erf(x.handle));
}

/** The greatest integer that is at most x, in x's type. */
export function floor(x: Tensor): Tensor {
  return wrap("shim_floor", native().shim_floor(x.handle));
}

/** The least integer that is at least x, in x's type. */
export function ceil(x: Tensor): Tensor {
  return wrap("shim_ceil", native().shim_ceil(x.handle));
}

/** The nearest integer, halves to even, in x's type. */
export function round(x: Tensor): Tensor {
  return wrap("shim_round", native().shim_round(x.handle));
}

/** Whether x is zero. */
export function logicalNot(x: Tensor): Tensor {
  return wrap("shim_logical_not", native().shim_logical_not(x.handle));
}

/** a + b. */
export function add(a: Operand, b: Operand): Tensor {
  return wrap("shim_add", native().shim_add(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** a - b. */
export function subtract(a: Operand, b: Operand): Tensor {
  return wrap("shim_subtract", native().shim_subtract(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** a × b. */
export function multiply(a: Operand, b: Operand): Tensor {
  return wrap("shim_multiply", native().shim_multiply(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** a / b, of integers as float32. */
export function divide(a: Operand, b: Operand): Tensor {
  return wrap("shim_divide", native().shim_divide(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** a / b rounded down. */
export function floorDivide(a: Operand, b: Operand): Tensor {
  const returned = native().shim_floor_divide(handleOf(a), handleOf(b), numberOf(a, b));
  return wrap("shim_floor_divide", returned);
}

/** a modulo b, with the sign of b. */
export function remainder(a: Operand, b: Operand): Tensor {
  return wrap("shim_remainder", native().shim_remainder(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** aᵇ. */
export function power(a: Operand, b: Operand): Tensor {
  return wrap("shim_power", native().shim_power(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** The greater of a and b. */
export function maximum(a: Operand, b: Operand): Tensor {
  return wrap("shim_maximum", native().shim_maximum(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** The lesser of a and b. */
export function minimum(a: Operand, b: Operand): Tensor {
  return wrap("shim_minimum", native().shim_minimum(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** Whether a = b. */
export function equal(a: Operand, b: Operand): Tensor {
  return wrap("shim_equal", native().shim_equal(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** Whether a ≠ b. */
export function notEqual(a: Operand, b: Operand): Tensor {
  return wrap("shim_not_equal", native().shim_not_equal(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** Whether a < b. */
export function less(a: Operand, b: Operand): Tensor {
  return wrap("shim_less", native().shim_less(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** Whether a ≤ b. */
export function lessEqual(a: Operand, b: Operand): Tensor {
  const returned = native().shim_less_equal(handleOf(a), handleOf(b), numberOf(a, b));
  return wrap("shim_less_equal", returned);
}

/** Whether a > b. */
export function greater(a: Operand, b: Operand): Tensor {
  return wrap("shim_greater", native().shim_greater(handleOf(a), handleOf(b), numberOf(a, b)));
}

/** Whether a ≥ b. */
export function greaterEqual(a: Operand, b: Operand): Tensor {
  const returned = native().shim_greater_equal(handleOf(a), handleOf(b), numberOf(a, b));
  return wrap("shim_greater_equal", returned);
}

/** Whether neither a nor b is zero. */
export function logicalAnd(a: Operand, b: Operand): Tensor {
  const returned = native().shim_logical_and(handleOf(a), handleOf(b), numberOf(a, b));
  return wrap("shim_logical_and", returned);
}

/** Whether a or b is not zero. */
export function logicalOr(a: Operand, b: Operand): Tensor {
  const returned = native().shim_logical_or(handleOf(a), handleOf(b), numberOf(a, b));
  return wrap("shim_logical_or", returned);
}

/** a where the condition holds, else b. */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  const [first, second] = [typeof a === "number" ? a : 0, typeof b === "number" ? b : 0];
  const returned = native().shim_where(condition.handle, handleOf(a), first, handleOf(b), second);
  return wrap("shim_where", returned);
}
