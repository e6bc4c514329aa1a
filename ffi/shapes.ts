/** Shapes, joins, splits and element types. */
import { check, native } from "./bind.ts";
import { type Dtype, DTYPE_CODE } from "./dtype.ts";
import { type Axes, fill, fillAxes, FIRST, handles, SECOND } from "./ints.ts";
import { Tensor, wrap } from "./tensor.ts";

/** The same elements in another shape; one length may be -1, which is what remains. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const ndim = fill(FIRST, shape);
  return wrap("shim_reshape", native().shim_reshape(x.handle, FIRST, ndim));
}

/** The axes in another order; reversed if none is given. */
export function transpose(x: Tensor, axes?: readonly number[]): Tensor {
  const count = axes?.length ? fill(FIRST, axes) : -1;
  return wrap("shim_transpose", native().shim_transpose(x.handle, FIRST, count));
}

/** Two axes exchanged. */
export function swapaxes(x: Tensor, axis1: number, axis2: number): Tensor {
  return wrap("shim_swapaxes", native().shim_swapaxes(x.handle, axis1, axis2));
}

/** New axes of length 1 at these places of the result. */
export function expandDims(x: Tensor, axes: number | readonly number[]): Tensor {
  const count = fillAxes(axes);
  return wrap("shim_expand_dims", native().shim_expand_dims(x.handle, FIRST, count));
}

/** Without these axes of length 1; without all such axes if none is given. */
export function squeeze(x: Tensor, axes?: Axes): Tensor {
  const count = fillAxes(axes);
  return wrap("shim_squeeze", native().shim_squeeze(x.handle, FIRST, count));
}

/** Repeated along axes of length 1 and new leading axes, without a copy. */
export function broadcastTo(x: Tensor, shape: readonly number[]): Tensor {
  const ndim = fill(FIRST, shape);
  return wrap("shim_broadcast_to", native().shim_broadcast_to(x.handle, FIRST, ndim));
}

/** The axes from the first to the last given one as one axis. */
export function flatten(x: Tensor, startAxis = 0, endAxis = -1): Tensor {
  return wrap("shim_flatten", native().shim_flatten(x.handle, startAxis, endAxis));
}

/** Tensors joined along an axis that they have. */
export function concatenate(tensors: readonly Tensor[], axis = 0): Tensor {
  const returned = native().shim_concatenate(handles(tensors), tensors.length, axis);
  return wrap("shim_concatenate", returned);
}

/** Tensors of one shape joined along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const returned = native().shim_stack(handles(tensors), tensors.length, axis);
  return wrap("shim_stack", returned);
}

/** Equal parts along an axis, if given a count; else parts that end before each of the indices. */
export function split(x: Tensor, parts: number | readonly number[], axis = 0): Tensor[] {
  const capacity = typeof parts === "number" ? Math.max(1, parts) : parts.length + 1;
  const out = new Int32Array(capacity);
  const count = typeof parts === "number"
    ? check("shim_split", native().shim_split(x.handle, parts, axis, out, capacity))
    : check("shim_split_at", splitAt(x, parts, axis, out));
  return Array.from(out.subarray(0, count), (handle) => new Tensor(handle));
}

function splitAt(x: Tensor, at: readonly number[], axis: number, out: Int32Array<ArrayBuffer>) {
  return native().shim_split_at(x.handle, Int32Array.from(at), at.length, axis, out, out.length);
}

/** The whole repeated so many times along each axis. */
export function tile(x: Tensor, repeats: readonly number[]): Tensor {
  const count = fill(FIRST, repeats);
  return wrap("shim_tile", native().shim_tile(x.handle, FIRST, count));
}

/** Each entry repeated so many times along an axis. */
export function repeat(x: Tensor, repeats: number, axis = 0): Tensor {
  return wrap("shim_repeat", native().shim_repeat(x.handle, repeats, axis));
}

/** With `[before, after]` new entries of one value around each axis. */
export function pad(x: Tensor, widths: readonly (readonly [number, number])[], value = 0): Tensor {
  fill(FIRST, widths.map(([before]) => before));
  const ndim = fill(SECOND, widths.map(([, after]) => after));
  return wrap("shim_pad", native().shim_pad(x.handle, FIRST, SECOND, ndim, value));
}

/** Row-major in memory; a copy only where it is not yet. */
export function contiguous(x: Tensor): Tensor {
  return wrap("shim_contiguous", native().shim_contiguous(x.handle));
}

/** Converted to another element type. */
export function astype(x: Tensor, dtype: Dtype): Tensor {
  return wrap("shim_astype", native().shim_astype(x.handle, DTYPE_CODE[dtype]));
}

/** The same bytes read as another element type; the last length changes if the sizes differ. */
export function view(x: Tensor, dtype: Dtype): Tensor {
  return wrap("shim_view", native().shim_view(x.handle, DTYPE_CODE[dtype]));
}
