/** Reads and packs the matrices of a GGUF file in the background. */
import { check, native } from "./bind.ts";
import { PackedMatrix } from "./packed.ts";
import { cString } from "./strings.ts";

/** GGML's types that a matrix may have; their order is that of the shim. */
const GGML_TYPES = [
  ...["F32", "F16", "BF16"],
  ...["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"],
];

/** A matrix in a GGUF file. */
export interface GgufMatrix {
  /** Of its first byte, from the start of the file. */
  readonly offset: number;
  /** GGML's name of its type, such as `Q4_K`. */
  readonly type: string;
  readonly outputs: number;
  readonly inputs: number;
  /** Heads whose rows are put in the order of rotary embedding by halves; none if left out. */
  readonly heads?: number | undefined;
  /** Rows that are taken, counted after `heads` has put them in order; all if left out. */
  readonly rows?: GgufRange | undefined;
  /** Columns that are taken, in whole groups of its type (16 or 32); all if left out. */
  readonly columns?: GgufRange | undefined;
}

/** Indices from `from` up to, not including, `to`. */
export interface GgufRange {
  readonly from: number;
  readonly to: number;
}

/**
 * Matrices that are read and packed one after the other, a few rows at a time, on threads of their
 * own: the caller is free until it takes one. Every type keeps its own values.
 */
export class GgufPacker implements Disposable {
  readonly #job: number;
  readonly #matrices: readonly GgufMatrix[];
  #isEnded = false;

  /**
   * Begins at once, in the order given.
   * @throws {NativeError} when the file does not open, or the kernels do not serve a matrix.
   */
  constructor(path: string, matrices: readonly GgufMatrix[]) {
    const shapes = matrices.flatMap(({ type, outputs, inputs, heads = 0, ...cut }) => {
      const { rows = { from: 0, to: outputs }, columns = { from: 0, to: inputs } } = cut;
      const [height, width] = [rows.to - rows.from, columns.to - columns.from];
      const file = [GGML_TYPES.indexOf(type), outputs, inputs, heads];
      return [...file, rows.from, height, columns.from, width];
    });
    const offsets = new Uint8Array(Float64Array.from(matrices, ({ offset }) => offset).buffer);
    const call = native().shim_pack_start;
    const job = call(cString(path), Int32Array.from(shapes), offsets, matrices.length);
    this.#job = check("shim_pack_start", job);
    this.#matrices = matrices;
  }

  /**
   * Waits for a matrix, which then belongs to the caller; each is taken once.
   * @throws {NativeError} when it, or one before it, could not be read.
   */
  take(index: number): PackedMatrix {
    const id = check("shim_pack_take", native().shim_pack_take(this.#job, index));
    const { outputs = 0, inputs = 0, rows, columns } = this.#matrices[index] ?? {};
    const height = rows ? rows.to - rows.from : outputs;
    return new PackedMatrix(id, [height, columns ? columns.to - columns.from : inputs]);
  }

  /** Ends the work, and frees what was not taken; a second time does nothing. */
  [Symbol.dispose](): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    check("shim_pack_end", native().shim_pack_end(this.#job));
  }
}
