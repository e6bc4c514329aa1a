/**
 * Randomness, always from an explicit key: equal keys give equal numbers, and the global generator
 * is never touched.
 *
 * @module
 */
import { native } from "./bind.ts";
import { type Dtype, DTYPE_CODE } from "./dtype.ts";
import { fill, FIRST } from "./ints.ts";
import { Tensor, wrap } from "./tensor.ts";

/** The key of a seed, of which 64 bits count. */
export function key(seed: number | bigint): Tensor {
  const bits = BigInt.asUintN(64, BigInt(seed));
  const [high, low] = [Number(bits >> 32n) | 0, Number(bits & 0xffff_ffffn) | 0];
  return wrap("shim_random_key", native().shim_random_key(high, low));
}

/** So many new keys `[count, 2]`, independent of each other. */
export function split(key: Tensor, count = 2): Tensor {
  return wrap("shim_random_split", native().shim_random_split(key.handle, count));
}

/** Draws an index along an axis (the last if left out) with chances softmax(logits); uint32. */
export function categorical(
  logits: Tensor,
  options: { readonly key: Tensor; readonly axis?: number },
): Tensor {
  const { key, axis = -1 } = options;
  const returned = native().shim_random_categorical(logits.handle, axis, key.handle);
  return wrap("shim_random_categorical", returned);
}

/** Numbers in [low, high), 0 and 1 if left out. */
export function uniform(
  shape: readonly number[],
  options: {
    readonly key: Tensor;
    readonly low?: number;
    readonly high?: number;
    readonly dtype?: Dtype;
  },
): Tensor {
  const { key, low = 0, high = 1, dtype = "float32" } = options;
  const ndim = fill(FIRST, shape);
  const code = DTYPE_CODE[dtype];
  const returned = native().shim_random_uniform(low, high, FIRST, ndim, code, key.handle);
  return wrap("shim_random_uniform", returned);
}

/** Normally distributed numbers. */
export function normal(
  shape: readonly number[],
  options: {
    readonly key: Tensor;
    readonly mean?: number;
    readonly deviation?: number;
    readonly dtype?: Dtype;
  },
): Tensor {
  const { key, mean = 0, deviation = 1, dtype = "float32" } = options;
  const ndim = fill(FIRST, shape);
  const code = DTYPE_CODE[dtype];
  const returned = native().shim_random_normal(mean, deviation, FIRST, ndim, code, key.handle);
  return wrap("shim_random_normal", returned);
}

/** True with chance p, in p's shape unless another is given. */
export function bernoulli(
  p: Tensor | number,
  options: { readonly key: Tensor; readonly shape?: readonly number[] },
): Tensor {
  const { key, shape } = options;
  const ndim = shape === undefined ? -1 : fill(FIRST, shape);
  const [chances, number] = typeof p === "number" ? [0, p] : [p.handle, 0];
  const returned = native().shim_random_bernoulli(chances, number, FIRST, ndim, key.handle);
  return wrap("shim_random_bernoulli", returned);
}
