/** Weight matrices in the order in which the CPU kernels read them. */
import { check, native } from "./bind.ts";
import type { Quantized } from "./linear.ts";
import { type Tensor, wrap } from "./tensor.ts";

/** A matrix `[outputs, inputs]` that only the functions of this file know how to read. */
export class PackedMatrix implements Disposable {
  /** Its number in the shim. */
  readonly id: number;
  readonly outputs: number;
  readonly inputs: number;

  /** Takes over a native matrix; the functions of this file make them. */
  constructor(id: number, [outputs, inputs]: readonly [outputs: number, inputs: number]) {
    [this.id, this.outputs, this.inputs] = [id, outputs, inputs];
  }

  /** Frees it; plans that were recorded with it keep it until they are freed. */
  [Symbol.dispose](): void {
    check("shim_free_matrix", native().shim_free_matrix(this.id));
  }
}

/** How a matrix to pack is quantised, in mode "affine". */
export interface PackOptions {
  readonly groupSize: number;
  readonly bits: number;
}

/**
 * Packs a quantised matrix; its own tensors are not needed any more.
 * @throws {NativeError} when the kernels do not serve such a matrix.
 */
export function packQuantized(parts: Quantized, { groupSize, bits }: PackOptions): PackedMatrix {
  const { weight, scales, biases } = parts;
  const call = native().shim_pack_matrix;
  const id = call(weight.handle, scales.handle, biases?.handle ?? 0, groupSize, bits);
  check("shim_pack_matrix", id);
  const [outputs = 0, words = 0] = weight.shape;
  return new PackedMatrix(id, [outputs, words * WORD_BITS / bits]);
}

/** Bits of one word of packed weights. */
const WORD_BITS = 32;

/**
 * Packs a matrix of f32, f16 or bf16, in its own type.
 * @throws {NativeError} when the kernels do not serve such a matrix.
 */
export function packDense(weight: Tensor): PackedMatrix {
  const id = native().shim_pack_matrix(weight.handle, 0, 0, 0, 0);
  check("shim_pack_matrix", id);
  const [outputs = 0, inputs = 0] = weight.shape;
  return new PackedMatrix(id, [outputs, inputs]);
}

/** x @ Wᵀ + bias for f32 x `[..., inputs]`; the bias is f32 `[outputs]`. */
export function packedLinear(x: Tensor, matrix: PackedMatrix, bias?: Tensor): Tensor {
  const returned = native().shim_packed_linear(x.handle, matrix.id, bias?.handle ?? 0);
  return wrap("shim_packed_linear", returned);
}

/**
 * Rows of the matrix by int32 ids `[...]`, each less than its outputs: f32 `[..., inputs]`. One that
 * holds the rows from `firstId` on only gives zeros for all other ids.
 */
export function packedRows(
  ids: Tensor,
  matrix: PackedMatrix,
  options: { readonly firstId?: number | undefined } = {},
): Tensor {
  const { firstId = WHOLE_TABLE } = options;
  return wrap("shim_packed_rows", native().shim_packed_rows(ids.handle, matrix.id, firstId));
}

/** In place of a first id: all rows are there, and an id beyond them is refused. */
const WHOLE_TABLE = -1;
