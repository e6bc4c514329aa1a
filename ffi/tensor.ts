/** The tensor: a handle to an MLX array, with the operations as chainable methods. */
import * as arithmetic from "./arithmetic.ts";
import type { Operand } from "./arithmetic.ts";
import { check, native } from "./bind.ts";
import type { NativeName } from "./declarations.ts";
import { arrayFor, type Dtype, DTYPE_CODE, dtypeOf, ITEM_BYTES, type TypedArray } from "./dtype.ts";
import * as indexing from "./indexing.ts";
import { type Axes, FIRST, handles } from "./ints.ts";
import { matmul } from "./linear.ts";
import { adopt, disown, own } from "./ownership.ts";
import * as reduce from "./reduce.ts";
import type { ReduceOptions } from "./reduce.ts";
import * as shapes from "./shapes.ts";

/**
 * An n-dimensional array in MLX's memory, computed when it is first needed. It is freed by its
 * {@linkcode Scope}, or by its owner if none was open when it was made or if it was kept.
 */
export class Tensor implements Disposable {
  /** The number of the native array in the shim. */
  readonly handle: number;
  #shape: readonly number[] | undefined;
  #dtype: Dtype | undefined;

  /** Takes over a native array; use the functions of this room to make tensors. */
  constructor(handle: number) {
    this.handle = handle;
    adopt(this, handle);
  }

  /** The length of each axis. */
  get shape(): readonly number[] {
    return this.#shape ?? this.#describe().shape;
  }

  /** The element type. */
  get dtype(): Dtype {
    return this.#dtype ?? this.#describe().dtype;
  }

  #describe(): { shape: readonly number[]; dtype: Dtype } {
    const returned = native().shim_describe(this.handle, FIRST, FIRST.length);
    const ndim = check("shim_describe", returned);
    this.#dtype = dtypeOf(FIRST[0] ?? -1);
    this.#shape = Array.from(FIRST.subarray(1, ndim + 1));
    return { shape: this.#shape, dtype: this.#dtype };
  }

  /** The number of axes. */
  get ndim(): number {
    return this.shape.length;
  }

  /** The number of elements. */
  get size(): number {
    return this.shape.reduce((product, length) => product * length, 1);
  }

  /** The bytes of the elements. */
  get nbytes(): number {
    return this.size * ITEM_BYTES[this.dtype];
  }

  /** Hands the array from its scope over to the caller, who disposes of it. */
  keep(): this {
    check("shim_keep", native().shim_keep(this.handle));
    own(this, this.handle);
    return this;
  }

  /** Frees the array at once; does nothing if it is freed already. */
  [Symbol.dispose](): void {
    native().shim_free(this.handle); // A refused handle is one that was freed.
    disown(this);
  }

  /** Computes the elements now; returns this. */
  eval(): this {
    evalAll([this]);
    return this;
  }

  /** The value of a tensor of one element; true is 1. Beyond 2^53, 64-bit integers are rounded. */
  item(): number {
    const value = new Float64Array(1);
    check("shim_item", native().shim_item(this.handle, value));
    return value[0] as number;
  }

  /** The elements row by row; float16 and bfloat16 as float32, bool as 0 and 1. */
  toArray(): TypedArray {
    return this.#read(this.dtype);
  }

  /** The elements row by row as float32, whatever their type. */
  toFloat32Array(): Float32Array<ArrayBuffer> {
    return this.#read("float32") as Float32Array<ArrayBuffer>;
  }

  /** The elements row by row as plain numbers. */
  toNumbers(): number[] {
    return Array.from<number | bigint, number>(this.toArray(), Number);
  }

  #read(dtype: Dtype): TypedArray {
    const { array, readAs } = arrayFor(dtype, this.size);
    const bytes = new Uint8Array(array.buffer as ArrayBuffer);
    const code = DTYPE_CODE[readAs];
    check("shim_read", native().shim_read(this.handle, code, bytes, bytes.length));
    return array;
  }

  /** As Deno prints it. */
  [Symbol.for("Deno.customInspect")](): string {
    return `Tensor ${this.dtype} [${this.shape.join(", ")}]`;
  }

  /** this + other. */
  add(other: Operand): Tensor {
    return arithmetic.add(this, other);
  }

  /** this - other. */
  subtract(other: Operand): Tensor {
    return arithmetic.subtract(this, other);
  }

  /** this × other. */
  multiply(other: Operand): Tensor {
    return arithmetic.multiply(this, other);
  }

  /** this / other. */
  divide(other: Operand): Tensor {
    return arithmetic.divide(this, other);
  }

  /** this modulo other. */
  remainder(other: Operand): Tensor {
    return arithmetic.remainder(this, other);
  }

  /** this to the power of other. */
  power(other: Operand): Tensor {
    return arithmetic.power(this, other);
  }

  /** The greater of both. */
  maximum(other: Operand): Tensor {
    return arithmetic.maximum(this, other);
  }

  /** The lesser of both. */
  minimum(other: Operand): Tensor {
    return arithmetic.minimum(this, other);
  }

  /** Whether this = other. */
  equal(other: Operand): Tensor {
    return arithmetic.equal(this, other);
  }

  /** Whether this < other. */
  less(other: Operand): Tensor {
    return arithmetic.less(this, other);
  }

  /** Whether this ≤ other. */
  lessEqual(other: Operand): Tensor {
    return arithmetic.lessEqual(this, other);
  }

  /** Whether this > other. */
  greater(other: Operand): Tensor {
    return arithmetic.greater(this, other);
  }

  /** Whether this ≥ other. */
  greaterEqual(other: Operand): Tensor {
    return arithmetic.greaterEqual(this, other);
  }

  /** -this. */
  negative(): Tensor {
    return arithmetic.negative(this);
  }

  /** The absolute values. */
  abs(): Tensor {
    return arithmetic.abs(this);
  }

  /** The squares. */
  square(): Tensor {
    return arithmetic.square(this);
  }

  /** The square roots. */
  sqrt(): Tensor {
    return arithmetic.sqrt(this);
  }

  /** The reciprocal square roots. */
  rsqrt(): Tensor {
    return arithmetic.rsqrt(this);
  }

  /** The exponentials. */
  exp(): Tensor {
    return arithmetic.exp(this);
  }

  /** The natural logarithms. */
  log(): Tensor {
    return arithmetic.log(this);
  }

  /** The hyperbolic tangents. */
  tanh(): Tensor {
    return arithmetic.tanh(this);
  }

  /** The logistic function. */
  sigmoid(): Tensor {
    return arithmetic.sigmoid(this);
  }

  /** The sum along the axes, or of all. */
  sum(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce.sum(this, axes, options);
  }

  /** The mean along the axes, or of all. */
  mean(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce.mean(this, axes, options);
  }

  /** The greatest along the axes, or of all. */
  max(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce.max(this, axes, options);
  }

  /** The least along the axes, or of all. */
  min(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce.min(this, axes, options);
  }

  /** log Σ eˣ along the axes, or of all. */
  logsumexp(axes?: Axes, options?: ReduceOptions): Tensor {
    return reduce.logsumexp(this, axes, options);
  }

  /** The index of the greatest along an axis, or of all. */
  argmax(axis?: number, options?: ReduceOptions): Tensor {
    return reduce.argmax(this, axis, options);
  }

  /** The index of the least along an axis, or of all. */
  argmin(axis?: number, options?: ReduceOptions): Tensor {
    return reduce.argmin(this, axis, options);
  }

  /** Chances along an axis, the last if left out. */
  softmax(axes?: number | readonly number[], options?: { readonly precise?: boolean }): Tensor {
    return reduce.softmax(this, axes, options);
  }

  /** The elements from `start` up to, not including, `stop`. */
  slice(start: readonly number[], stop: readonly number[], strides?: readonly number[]): Tensor {
    return indexing.slice(this, start, stop, strides);
  }

  /** With a part replaced; dispose of this before evaluating, and no copy is made. */
  sliceUpdate(update: Tensor, start: readonly number[], stop: readonly number[]): Tensor {
    return indexing.sliceUpdate(this, update, start, stop);
  }

  /** The entries at these indices along an axis, or of the flattened tensor. */
  take(indices: Tensor | number | readonly number[], axis?: number): Tensor {
    return indexing.take(this, indices, axis);
  }

  /** The same elements in another shape; one length may be -1. */
  reshape(...shape: number[]): Tensor {
    return shapes.reshape(this, shape);
  }

  /** The axes in another order; reversed if none is given. */
  transpose(...axes: number[]): Tensor {
    return shapes.transpose(this, axes);
  }

  /** Two axes exchanged. */
  swapaxes(axis1: number, axis2: number): Tensor {
    return shapes.swapaxes(this, axis1, axis2);
  }

  /** New axes of length 1. */
  expandDims(axes: number | readonly number[]): Tensor {
    return shapes.expandDims(this, axes);
  }

  /** Without axes of length 1. */
  squeeze(axes?: Axes): Tensor {
    return shapes.squeeze(this, axes);
  }

  /** Repeated along axes of length 1 and new leading axes. */
  broadcastTo(...shape: number[]): Tensor {
    return shapes.broadcastTo(this, shape);
  }

  /** Parts along an axis: so many equal ones, or those that end before each of the indices. */
  split(parts: number | readonly number[], axis?: number): Tensor[] {
    return shapes.split(this, parts, axis);
  }

  /** Several axes as one. */
  flatten(startAxis?: number, endAxis?: number): Tensor {
    return shapes.flatten(this, startAxis, endAxis);
  }

  /** Row-major in memory. */
  contiguous(): Tensor {
    return shapes.contiguous(this);
  }

  /** Converted to another element type. */
  astype(dtype: Dtype): Tensor {
    return shapes.astype(this, dtype);
  }

  /** The same bytes as another element type. */
  view(dtype: Dtype): Tensor {
    return shapes.view(this, dtype);
  }

  /** this @ other. */
  matmul(other: Tensor): Tensor {
    return matmul(this, other);
  }
}

/** Makes a tensor of what a C function returned. */
export function wrap(name: NativeName, returned: number): Tensor {
  return new Tensor(check(name, returned));
}

/** Computes the elements of these tensors now. */
export function evalAll(tensors: readonly Tensor[]): void {
  check("shim_eval", native().shim_eval(handles(tensors), tensors.length));
}

/** Starts to compute the elements of these tensors, and does not wait. */
export function asyncEval(tensors: readonly Tensor[]): void {
  check("shim_async_eval", native().shim_async_eval(handles(tensors), tensors.length));
}
