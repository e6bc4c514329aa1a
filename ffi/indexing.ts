/**
 * Parts of tensors, read and replaced. MLX does not check the bounds of indices held by tensors.
 */
import { native } from "./bind.ts";
import { DTYPE_CODE } from "./dtype.ts";
import { fill, FIRST, SECOND, THIRD } from "./ints.ts";
import { Tensor, wrap } from "./tensor.ts";

/** Writes a box into the three buffers; lists that are too short go on with the whole axis. */
function fillBox(
  x: Tensor,
  start: readonly number[],
  stop: readonly number[],
  strides: readonly number[],
): number {
  const { shape } = x;
  if (Math.max(start.length, stop.length, strides.length) > shape.length) {
    throw new RangeError(
      `Cannot slice [${shape}] from [${start}] to [${stop}] by [${strides}]: too many numbers`,
    );
  }
  for (let axis = 0; axis < shape.length; axis++) {
    FIRST[axis] = start[axis] ?? 0;
    SECOND[axis] = stop[axis] ?? shape[axis] as number;
    THIRD[axis] = strides[axis] ?? 1;
  }
  return shape.length;
}

/**
 * The elements from `start` up to, not including, `stop`. Negative numbers count from the end; axes
 * after the last given one are whole.
 */
export function slice(
  x: Tensor,
  start: readonly number[],
  stop: readonly number[],
  strides: readonly number[] = [],
): Tensor {
  const ndim = fillBox(x, start, stop, strides);
  return wrap("shim_slice", native().shim_slice(x.handle, FIRST, SECOND, THIRD, ndim));
}

/**
 * x with a part, named as in {@linkcode slice}, replaced by `update`. Copies x, unless its handle
 * is freed before the result is evaluated: then the memory of x is reused.
 */
export function sliceUpdate(
  x: Tensor,
  update: Tensor,
  start: readonly number[],
  stop: readonly number[],
  strides: readonly number[] = [],
): Tensor {
  const ndim = fillBox(x, start, stop, strides);
  const { handle } = update;
  const returned = native().shim_slice_update(x.handle, handle, FIRST, SECOND, THIRD, ndim);
  return wrap("shim_slice_update", returned);
}

/**
 * The entries at these indices along an axis (rows if it is 0), or in the flattened tensor.
 * @throws {RangeError} if one of the given numbers lies outside.
 */
export function take(
  x: Tensor,
  indices: Tensor | number | readonly number[],
  axis?: number,
): Tensor {
  const list = indices instanceof Tensor
    ? indices
    : indexTensor(indices, axis === undefined ? x.size : x.shape.at(axis) ?? Infinity);
  try {
    if (axis === undefined) {
      return wrap("shim_take_flat", native().shim_take_flat(x.handle, list.handle));
    }
    return wrap("shim_take", native().shim_take(x.handle, list.handle, axis));
  } finally {
    if (list !== indices) list[Symbol.dispose]();
  }
}

function indexTensor(indices: number | readonly number[], length: number): Tensor {
  const values = Int32Array.from(typeof indices === "number" ? [indices] : indices);
  const outside = values.find((index) => index >= length || index < -length);
  if (outside !== undefined) {
    throw new RangeError(`Cannot take entry ${outside} of ${length}`);
  }
  const ndim = typeof indices === "number" ? 0 : fill(FIRST, [values.length]);
  const bytes = new Uint8Array(values.buffer);
  const returned = native().shim_from_bytes(bytes, bytes.length, FIRST, ndim, DTYPE_CODE.int32);
  return wrap("shim_from_bytes", returned);
}

/** The entries at indices that have x's shape except along the axis. */
export function takeAlongAxis(x: Tensor, indices: Tensor, axis: number): Tensor {
  const returned = native().shim_take_along_axis(x.handle, indices.handle, axis);
  return wrap("shim_take_along_axis", returned);
}

/** x with `values` at these indices along the axis. */
export function putAlongAxis(x: Tensor, indices: Tensor, values: Tensor, axis: number): Tensor {
  const returned = native().shim_put_along_axis(x.handle, indices.handle, values.handle, axis);
  return wrap("shim_put_along_axis", returned);
}
