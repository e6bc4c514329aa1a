/** New tensors: constants, ranges and data from JavaScript. */
import { native } from "./bind.ts";
import { type Dtype, DTYPE_CODE, dtypeOfTypedArray, ITEM_BYTES, type TypedArray } from "./dtype.ts";
import { fill, FIRST } from "./ints.ts";
import { Tensor, wrap } from "./tensor.ts";

/** Zeros of a shape. */
export function zeros(shape: readonly number[], dtype: Dtype = "float32"): Tensor {
  const ndim = fill(FIRST, shape);
  return wrap("shim_zeros", native().shim_zeros(FIRST, ndim, DTYPE_CODE[dtype]));
}

/** Ones of a shape. */
export function ones(shape: readonly number[], dtype: Dtype = "float32"): Tensor {
  const ndim = fill(FIRST, shape);
  return wrap("shim_ones", native().shim_ones(FIRST, ndim, DTYPE_CODE[dtype]));
}

/** One value throughout a shape. */
export function full(shape: readonly number[], value: number, dtype: Dtype = "float32"): Tensor {
  const ndim = fill(FIRST, shape);
  return wrap("shim_full", native().shim_full(value, FIRST, ndim, DTYPE_CODE[dtype]));
}

/** A tensor of no dimensions. */
export function scalar(value: number, dtype: Dtype = "float32"): Tensor {
  return wrap("shim_scalar", native().shim_scalar(value, DTYPE_CODE[dtype]));
}

/** The numbers from `start` up to, not including, `stop`. */
export function arange(start: number, stop: number, step = 1, dtype: Dtype = "int32"): Tensor {
  return wrap("shim_arange", native().shim_arange(start, stop, step, DTYPE_CODE[dtype]));
}

/**
 * A tensor with a copy of these numbers, row by row, converted to `dtype` if that is not their own.
 * Plain numbers are float32 unless `dtype` says otherwise; without a shape, one axis holds them
 * all.
 */
export function fromArray(
  data: TypedArray | readonly number[],
  shape?: readonly number[],
  dtype?: Dtype,
): Tensor {
  const numbers = ArrayBuffer.isView(data) ? data : typedArrayFor(data, dtype);
  const own = dtypeOfTypedArray(numbers);
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  const tensor = fromBytes(bytes, shape ?? [data.length], own);
  if (dtype === undefined || dtype === own) return tensor;
  const converted = wrap(
    "shim_astype",
    native().shim_astype(tensor.handle, DTYPE_CODE[dtype]),
  );
  tensor[Symbol.dispose]();
  return converted;
}

// Through float64 where float32 would round, so that large integers arrive as they are.
function typedArrayFor(data: readonly number[], dtype: Dtype = "float32"): TypedArray {
  const narrow = ITEM_BYTES[dtype] < 4 || dtype === "float32";
  return narrow ? Float32Array.from(data) : Float64Array.from(data);
}

/** A tensor with a copy of these bytes: elements of `dtype`, row by row, little-endian. */
export function fromBytes(bytes: Uint8Array, shape: readonly number[], dtype: Dtype): Tensor {
  const ndim = fill(FIRST, shape);
  const data = bytes as Uint8Array<ArrayBuffer>; // Shared buffers are as good: C copies at once.
  const returned = native().shim_from_bytes(data, data.length, FIRST, ndim, DTYPE_CODE[dtype]);
  return wrap("shim_from_bytes", returned);
}
