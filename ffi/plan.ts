/** Steps of the CPU engine: recorded once, replayed in one call. */
import { check, native } from "./bind.ts";
import type { KvPool } from "./kv_pool.ts";
import { type RowDraw, type RowDrawn, sampleRows } from "./sample.ts";
import { Tensor, wrap } from "./tensor.ts";

/** Consecutive rows of a step that belong to one sequence. */
export interface StepSequence {
  readonly tokens: ArrayLike<number>;
  /** Of the first token. */
  readonly position: number;
  /**
   * Its blocks in the pool, in order of their positions; room for all tokens is needed. Those that
   * the windows of all layers have left behind may be {@linkcode KV_BLOCK_GONE}.
   */
  readonly blocks: readonly number[];
  /** Rows whose output is wanted, counted from the first token of this sequence, ascending. */
  readonly selected: readonly number[];
}

/** The step as the shim reads it. */
export function encodeStep(sequences: readonly StepSequence[]): Int32Array<ArrayBuffer> {
  const rows = sequences.reduce((sum, { tokens }) => sum + tokens.length, 0);
  const selected = sequences.reduce((sum, { selected }) => sum + selected.length, 0);
  const heads = sequences.reduce((sum, { blocks }) => sum + 3 + blocks.length, 0);
  const data = new Int32Array(3 + rows + heads + selected);
  data.set([rows, sequences.length, selected]);
  let at = 3;
  for (const { tokens } of sequences) {
    data.set(tokens, at);
    at += tokens.length;
  }
  for (const { tokens, position, blocks } of sequences) {
    data.set([tokens.length, position, blocks.length], at);
    data.set(blocks, at + 3);
    at += 3 + blocks.length;
  }
  let firstRow = 0;
  for (const { tokens, selected } of sequences) {
    for (const row of selected) data[at++] = firstRow + row;
    firstRow += tokens.length;
  }
  return data;
}

/** What the steps of a plan took. */
export interface PlanProfile {
  readonly steps: number;
  /** By kind of operation, over all steps. */
  readonly milliseconds: Readonly<Record<typeof KINDS[number], number>>;
  /** Buffers that the plan holds. */
  readonly bufferBytes: number;
  /** Operations of one step, after what can be joined was joined. */
  readonly operations: number;
}

/** In the order of the kernels. */
const KINDS = [
  "embed",
  "linear",
  "rmsNorm",
  "layerNorm",
  "elementwise",
  "rope",
  "attention",
  "select",
  "input",
  "sum",
  "gather",
] as const;

/** What a step is given and gives besides its numbers. */
export interface ReplayOptions {
  /** `[rows, width]`, one for each token, where the plan was recorded from {@linkcode inputRows}. */
  readonly rows?: Float32Array<ArrayBuffer> | undefined;
  /** Room for the index of the largest output of each selected row. */
  readonly best?: Int32Array<ArrayBuffer> | undefined;
}

/** What a model, or a part of it, does with a step, for any number of rows. */
export class Plan implements Disposable {
  readonly #id: number;
  readonly #width: number;
  #rows = 0;

  private constructor(id: number) {
    this.#id = id;
    this.#width = check("shim_plan_width", native().shim_plan_width(id));
  }

  /**
   * Writes down how `output` comes of `input`, without computing anything. The input is token ids or
   * {@linkcode inputRows}; the output is `[selected, width]`, or `[rows, width]` of a part that does
   * not end the model.
   * @throws {NativeError} when the graph has operations that are not the CPU engine's.
   */
  static record(input: Tensor, output: Tensor): Plan {
    return new Plan(check("shim_record", native().shim_record(input.handle, output.handle)));
  }

  /**
   * Runs a step, and gives the number of rows of its output.
   * @throws {NativeError} when the step names tokens or blocks that are not there.
   * @throws {GroupError} when a sum over the ranks fails.
   */
  replay(pool: KvPool, step: Int32Array<ArrayBuffer>, options: ReplayOptions = {}): number {
    const { rows = null, best = null } = options;
    this.#rows = 0; // Those of the step before are gone, whatever comes of this one.
    const status = native().shim_replay(
      ...[this.#id, pool.id, step, step.length, rows, rows?.length ?? 0, best] as const,
    );
    return this.#rows = check("shim_replay", status);
  }

  /** A copy of the output `[rows, width]` of the last step; nothing after one that failed. */
  outputRows(): Float32Array<ArrayBuffer> {
    const out = new Float32Array(this.#rows * this.#width);
    if (out.length === 0) return out;
    check("shim_replayed_rows", native().shim_replayed_rows(this.#id, out, out.length));
    return out;
  }

  /** The output `[width]` of a selected row of the last step. */
  output(row: number): Tensor {
    return wrap("shim_replayed", native().shim_replayed(this.#id, row));
  }

  /** Draws from the outputs of the last step, as {@linkcode sampleRows} does. */
  sample(draws: readonly RowDraw[]): RowDrawn[] {
    return sampleRows({ plan: this.#id }, draws);
  }

  /** What its steps took so far. */
  profile(): PlanProfile {
    const out = new Float64Array(KINDS.length + 3);
    check("shim_profile", native().shim_profile(this.#id, out));
    const milliseconds = Object.fromEntries(KINDS.map((kind, i) => [kind, out[i] ?? 0]));
    const [steps = 0, bufferBytes = 0, operations = 0] = out.subarray(KINDS.length);
    return {
      steps,
      milliseconds: milliseconds as PlanProfile["milliseconds"],
      bufferBytes,
      operations,
    };
  }

  /** Frees its buffers, and what it alone still refers to. */
  [Symbol.dispose](): void {
    check("shim_free_plan", native().shim_free_plan(this.#id));
  }
}
