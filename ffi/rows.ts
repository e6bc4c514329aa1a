/**
 * Operations of the CPU engine on f32 rows `[rows, width]`. A row's result has the same bits
 * whatever other rows are computed with it. Those that need to know which token of which sequence a
 * row is are computed by a replayed plan, or after {@linkcode setStep}.
 *
 * @module
 */
import { check, native } from "./bind.ts";
import type { NativeGroup } from "./group.ts";
import type { KvPool } from "./kv_pool.ts";
import { type Tensor, wrap } from "./tensor.ts";

/** Functions of one or two rows, element by element; their order is that of the kernels. */
const FUNCTIONS = [
  "add",
  "multiply",
  "scale",
  "silu",
  "swiglu",
  "gelu",
  "geglu",
  "geluTanh",
  "gegluTanh",
  "sigmoid",
  "tanh",
  "softcap",
] as const;

/** A function of one row, or of two of equal width. */
export type RowFunction = typeof FUNCTIONS[number];

/** The function of each element of `a`, or of those of `a` and `b`. */
export function rowsFunction(
  name: RowFunction,
  a: Tensor,
  b?: Tensor,
  options: { readonly scalar?: number } = {},
): Tensor {
  const { scalar = 0 } = options;
  const code = FUNCTIONS.indexOf(name);
  const returned = native().shim_rows_function(code, a.handle, b?.handle ?? 0, scalar);
  return wrap("shim_rows_function", returned);
}

/** Settings of {@linkcode rowsNorm}. */
export interface RowsNormOptions {
  readonly eps: number;
  /** Pieces of a row, each normed by itself with the same weight; 1 if left out. */
  readonly heads?: number;
  readonly bias?: Tensor | undefined;
  /** Subtracts the mean first: layer norm; else root mean square norm. */
  readonly centered?: boolean;
}

/** Each piece of a row over its root mean square, times the weight `[width / heads]`. */
export function rowsNorm(
  x: Tensor,
  weight: Tensor | undefined,
  { eps, heads = 1, bias, centered = false }: RowsNormOptions,
): Tensor {
  const [w, b] = [weight?.handle ?? 0, bias?.handle ?? 0];
  const returned = native().shim_rows_norm(x.handle, w, b, eps, heads, centered);
  return wrap("shim_rows_norm", returned);
}

/** The angles by which positions turn. */
export class RopeTable implements Disposable {
  /** Its number in the shim. */
  readonly id: number;

  /** `frequencies` are radians for each position, one for each pair of features that turns. */
  constructor(
    frequencies: readonly number[],
    options: { readonly positionScale?: number; readonly amplitude?: number } = {},
  ) {
    const { positionScale = 1, amplitude = 1 } = options;
    const bytes = new Uint8Array(Float32Array.from(frequencies).buffer);
    const call = native().shim_rope_table;
    const id = call(bytes, frequencies.length, positionScale, amplitude);
    this.id = check("shim_rope_table", id);
  }

  /** Frees it; plans that were recorded with it keep it until they are freed. */
  [Symbol.dispose](): void {
    check("shim_free_rope_table", native().shim_free_rope_table(this.id));
  }
}

/** Turns the heads of x `[rows, heads × D]` by the positions of their rows. arXiv:2104.09864. */
export function rowsRope(
  x: Tensor,
  table: RopeTable,
  { heads, traditional = false }: { readonly heads: number; readonly traditional?: boolean },
): Tensor {
  const returned = native().shim_rows_rope(x.handle, table.id, heads, traditional);
  return wrap("shim_rows_rope", returned);
}

/** Settings of {@linkcode rowsAttention}. */
export interface RowsAttentionOptions {
  /** Which layer of the cache the keys and values go to. */
  readonly layer: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** Multiplies the scores, usually D^-0.5. */
  readonly scale: number;
  /** Caps the scores smoothly. */
  readonly softcap?: number;
  /** A row sees this many last positions; all if left out. */
  readonly window?: number;
  /** An extra score for each head `[H]`, which takes weight and gives nothing. */
  readonly sinks?: Tensor | undefined;
}

/**
 * Writes keys `[rows, kvHeads × D]` and values `[rows, kvHeads × Dv]` into the cache of the rows'
 * sequences, then gives what queries `[rows, heads × D]` read there: `[rows, heads × Dv]`.
 */
export function rowsAttention(
  { queries, keys, values }: Readonly<Record<"queries" | "keys" | "values", Tensor>>,
  options: RowsAttentionOptions,
): Tensor {
  const { layer, heads, kvHeads, scale, softcap = 0, window = 0, sinks } = options;
  const returned = native().shim_rows_attention(
    ...[queries.handle, keys.handle, values.handle] as const,
    ...[layer, heads, kvHeads, scale, softcap, window, sinks?.handle ?? 0] as const,
  );
  return wrap("shim_rows_attention", returned);
}

/**
 * Stands for the caller's rows `[rows, width]` when a plan is recorded from them: of a part of a
 * model that does not begin it. It cannot be computed.
 */
export function inputRows(rows: number, width: number): Tensor {
  return wrap("shim_rows_input", native().shim_rows_input(rows, width));
}

/**
 * The sum of all ranks' x, f32 `[..., width]`, with the same bits on all ranks: each of them makes
 * the same sums in the same order. A row's result does not depend on the rows that it comes with.
 */
export function allSum(x: Tensor, group: NativeGroup): Tensor {
  return wrap("shim_rows_sum", native().shim_rows_sum(x.handle, group.id));
}

/**
 * Rows `[..., width]` of which each rank has the features of one segment: rank k those from
 * `floor(width × k / size)` up to, not including, `floor(width × (k + 1) / size)`.
 * @throws {NativeError} when x is not of the width of this rank's segment.
 */
export function allGather(x: Tensor, group: NativeGroup, width: number): Tensor {
  return wrap("shim_rows_gather", native().shim_rows_gather(x.handle, group.id, width));
}

/** The rows that the step selects: `[selected, width]`. */
export function selectRows(x: Tensor): Tensor {
  return wrap("shim_rows_select", native().shim_rows_select(x.handle));
}

/** The step for operations made from now on, as {@linkcode encodeStep} writes it; none ends it. */
export function setStep(pool?: KvPool, step: Int32Array<ArrayBuffer> = new Int32Array()): void {
  check("shim_set_step", native().shim_set_step(pool?.id ?? 0, step, step.length));
}
