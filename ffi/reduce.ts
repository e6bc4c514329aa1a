/**
 * Reductions and order. Where axes are left out, all of them are meant (sums) or the last (order);
 * negative axes count from the end.
 *
 * @module
 */
import { native } from "./bind.ts";
import { type Axes, fillAxes, FIRST } from "./ints.ts";
import { Tensor, wrap } from "./tensor.ts";

/** Settings of a reduction. */
export interface ReduceOptions {
  /** Whether the reduced axes stay, with length 1. */
  readonly keepdims?: boolean;
}

/** The sum, along the axes. */
export function sum(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axes);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_sum", native().shim_sum(x.handle, FIRST, count, keepdims));
}

/** The arithmetic mean, along the axes. */
export function mean(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axes);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_mean", native().shim_mean(x.handle, FIRST, count, keepdims));
}

/** The product, along the axes. */
export function prod(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axes);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_prod", native().shim_prod(x.handle, FIRST, count, keepdims));
}

/** The greatest element, along the axes. */
export function max(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axes);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_max", native().shim_max(x.handle, FIRST, count, keepdims));
}

/** The least element, along the axes. */
export function min(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axes);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_min", native().shim_min(x.handle, FIRST, count, keepdims));
}

/** Whether no element is zero, along the axes. */
export function all(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axes);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_all", native().shim_all(x.handle, FIRST, count, keepdims));
}

/** Whether an element is not zero, along the axes. */
export function any(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axes);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_any", native().shim_any(x.handle, FIRST, count, keepdims));
}

/** log Σ eˣ, without overflow, along the axes. */
export function logsumexp(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axes);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_logsumexp", native().shim_logsumexp(x.handle, FIRST, count, keepdims));
}

/** The index of the greatest element along one axis, or in the flattened tensor; uint32. */
export function argmax(x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axis);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_argmax", native().shim_argmax(x.handle, FIRST, count, keepdims));
}

/** The index of the least element along one axis, or in the flattened tensor; uint32. */
export function argmin(x: Tensor, axis?: number, options: ReduceOptions = {}): Tensor {
  const count = fillAxes(axis);
  const keepdims = options.keepdims ?? false;
  return wrap("shim_argmin", native().shim_argmin(x.handle, FIRST, count, keepdims));
}

/** eˣ over its sum along the axes (the last one if left out). */
export function softmax(
  x: Tensor,
  axes: number | readonly number[] = -1,
  options: {
    /** Sums in float32 whatever the type. */
    readonly precise?: boolean;
  } = {},
): Tensor {
  const count = fillAxes(axes);
  const precise = options.precise ?? false;
  return wrap("shim_softmax", native().shim_softmax(x.handle, FIRST, count, precise));
}

/** The running sum along an axis. */
export function cumsum(
  x: Tensor,
  axis = -1,
  options: {
    /** Sums from the end. */
    readonly reverse?: boolean;
    /** Whether a sum includes its own element; true if left out. */
    readonly inclusive?: boolean;
  } = {},
): Tensor {
  const { reverse = false, inclusive = true } = options;
  return wrap("shim_cumsum", native().shim_cumsum(x.handle, axis, reverse, inclusive));
}

/** The elements in ascending order along an axis. */
export function sort(x: Tensor, axis = -1): Tensor {
  return wrap("shim_sort", native().shim_sort(x.handle, axis));
}

/** The indices that sort an axis in ascending order; uint32. */
export function argsort(x: Tensor, axis = -1): Tensor {
  return wrap("shim_argsort", native().shim_argsort(x.handle, axis));
}

/** The elements with the kth in its sorted place, lesser ones before it, greater ones after. */
export function partition(x: Tensor, kth: number, axis = -1): Tensor {
  return wrap("shim_partition", native().shim_partition(x.handle, kth, axis));
}

/** The indices that partition an axis around its kth least element; uint32. */
export function argpartition(x: Tensor, kth: number, axis = -1): Tensor {
  return wrap("shim_argpartition", native().shim_argpartition(x.handle, kth, axis));
}

/** The k greatest elements along an axis, in no certain order. */
export function topk(x: Tensor, k: number, axis = -1): Tensor {
  return wrap("shim_topk", native().shim_topk(x.handle, k, axis));
}
