import type { EngineCounts } from "../../core/engine_stats.ts";
import { AppError, assert, toAppError } from "../../core/errors.ts";
import type { TaskId } from "../../core/ids.ts";
import { memoryCounters, Scope } from "../../ffi/mod.ts";
import { type Decoder, type SequenceInput, StepLost, type StepOutput } from "../decoder.ts";
import type { Engine, TaskResponse } from "../engine.ts";
import { type Group, nextRank } from "../group.ts";
import { EngineCounters } from "../text/engine_counters.ts";
import type { Split } from "./group_decoder.ts";
import type { KvMove } from "./cache_operation.ts";
import { kvName } from "./group_kv_bytes.ts";
import { PassingKv } from "./passing_kv.ts";
import { Replica } from "./replica.ts";
import { brokenGroup } from "./socket_group.ts";
import {
  bodyOf,
  decodeFrame,
  encodeHeader,
  type Failure,
  type FrameInput,
  notUnderstood,
  type StepHeader,
} from "./step_frame.ts";

/** What a {@linkcode Follower} is made of. */
export interface FollowerParts {
  /** Left by its owner. */
  readonly group: Group;
  readonly split: Split;
  /** This rank's part of the model; freed with the engine, before the weights. */
  readonly part: Decoder;
  /** Freed with the engine. */
  readonly weights: Disposable;
  /** Numbers of a hidden state. */
  readonly hiddenSize: number;
  /** Of the model's layers, the first one that this rank has. */
  readonly firstLayer: number;
  /** Most bytes of keys and values on this rank, as far as the system has them now. */
  readonly kvBudgetBytes: () => number;
  /** Of this rank's model files: the first rank's must be the same. */
  readonly fingerprint: string;
  readonly now: () => number;
}

/** How long a rank that had a step waits for the next before it sleeps: decoding is faster. */
export const LOOK_MS = 20;

/** Frames that a step takes at most, so that the runner hears of commands in between. */
const FRAMES_MAX = 16;

/** A rank that does on its part of the model what the first one does on its. */
export class Follower implements Engine {
  readonly #parts: FollowerParts;
  readonly #replica: Replica;
  readonly #passingKv: PassingKv;
  readonly #counters = new EngineCounters();
  readonly #blockBytes: number;
  /** What came and was not done yet. */
  #next: Uint8Array<ArrayBuffer> | undefined;
  #isAwake = false;
  /** Why this rank has no part in what the others do. */
  #refusal: AppError | undefined;

  constructor(parts: FollowerParts) {
    const { group, part } = parts;
    assert(group.rank > 0, "the first rank follows nobody");
    this.#parts = parts;
    this.#replica = new Replica(part);
    const name = group.names[group.rank] ?? "?";
    this.#passingKv = new PassingKv({ ...parts, replica: this.#replica, name });
    using empty = part.makeCache();
    this.#blockBytes = empty.bytesFor(part.blockPositions);
  }

  /** Nothing: the first rank's warm-up passes here. */
  warmup(): void {}

  submit(): never {
    throw new AppError("invalid_request", "Cannot take a request: the first rank takes all", {
      hint: "ask the instance, not one of its ranks",
    });
  }

  hasWork(): boolean {
    return this.#isAwake || this.#look(0);
  }

  arrival(): Promise<void> {
    return this.#next ? Promise.resolve() : this.#parts.group.arrival();
  }

  /** Does what has come; waits a little for it, since one step often follows another. */
  step(): TaskResponse[] {
    this.#isAwake = this.#look(LOOK_MS);
    for (let i = 0; i < FRAMES_MAX && this.#look(0); i++) this.#take();
    return [];
  }

  #look(ms: number): boolean {
    try {
      this.#next ??= this.#parts.group.receive(ms);
    } catch (error) {
      // The first rank has left because of what this one told it.
      throw this.#refusal ?? error;
    }
    return this.#next !== undefined;
  }

  #take(): void {
    const { group, split } = this.#parts;
    const bytes = this.#next;
    assert(bytes, "there is a frame");
    this.#next = undefined;
    const from = group.names[group.rank - 1] ?? "?";
    const { header, rows } = decodeFrame(bytes, from);
    if (header.type !== "step") throw notUnderstood(from, `the ${header.type} of a step`);
    const blocksMax = this.#least(header.blocksMax);
    const step = { ...header, blocksMax, kv: this.#agreed(header), ...this.#refused(header) };
    for (const operation of header.operations) this.#replica.apply(operation);
    if (header.move) return this.#move(step, header.move, bodyOf(rows));
    if (header.inputs.length === 0) return this.#pass(step);
    if (split === "tensor") return this.#together(step);
    this.#pipe(step, rows);
  }

  /** The failure of a step whose first rank has other files of the model than this one. */
  #refused({ weights, failure }: StepHeader): { readonly failure?: Failure } {
    const { fingerprint, group } = this.#parts;
    if (weights === undefined || weights === fingerprint) return {};
    // It ends only once the first rank has heard why: who leaves at once is just gone for it.
    this.#refusal = otherFiles(group);
    return failure ? {} : { failure: { error: this.#refusal.toInfo(), isLost: false } };
  }

  /** How those before it keep keys and values, if this one does it alike. */
  #agreed({ kv }: StepHeader): string | undefined {
    return kv === kvName(this.#parts.part.kvBytes) ? kv : undefined;
  }

  /** Operations alone. */
  #pass(step: StepHeader): void {
    if (!this.#isLast) this.#forward(step);
    else if (step.returns) this.#tellDone(step);
  }

  /** Keys and values, to which this rank adds its part, or of which it takes that. */
  #move(step: StepHeader, move: KvMove, body: Uint8Array<ArrayBuffer>): void {
    const moved = step.failure ?? this.#passingKv.move(move, body);
    const [told, rest] = "error" in moved
      ? [{ ...step, failure: moved }, undefined]
      : [step, moved];
    if (this.#isLast) this.#tellDone(told, rest);
    else this.#forward(told, rest);
  }

  #least(blocksMax: number | null): number | null {
    const own = Math.floor(Math.max(0, this.#parts.kvBudgetBytes()) / this.#blockBytes);
    const least = Math.min(own, blocksMax ?? Infinity);
    return least === Infinity ? null : least;
  }

  #forward(step: StepHeader, body?: Uint8Array): void {
    this.#parts.group.send(encodeHeader({ ...step, type: "step" }), body);
  }

  get #isLast(): boolean {
    return nextRank(this.#parts.group) === 0;
  }

  /** Its layers, then on to the next rank; the last one tells the first what came of it. */
  #pipe(step: StepHeader, rows: Float32Array<ArrayBuffer>): void {
    using _scope = new Scope();
    this.#requireRows(step, rows);
    const failure = step.failure ?? this.#lost(step.inputs);
    const output = failure ?? this.#compute(step.inputs, rows);
    const failed = "error" in output ? output : undefined;
    if (failed) { for (const { cache } of step.inputs) this.#replica.cache(cache).isLost = true; }
    const result = "error" in output ? undefined : output;
    if (!this.#isLast) {
      const rows = bodyOf(result?.hidden?.());
      return this.#forward({ ...step, ...(failed ? { failure: failed } : {}) }, rows);
    }
    this.#tell(step, { failed, result });
  }

  #requireRows({ inputs, failure }: StepHeader, rows: Float32Array): void {
    const { hiddenSize, group } = this.#parts;
    // Behind a rank where the step failed there are none.
    const count = failure ? 0 : inputs.reduce((sum, { count }) => sum + count, 0);
    if (rows.length === count * hiddenSize) return;
    const from = group.names[group.rank - 1] ?? "?";
    throw notUnderstood(from, `${rows.length} numbers for ${count} tokens of ${hiddenSize}`);
  }

  #lost(inputs: readonly FrameInput[]): Failure | undefined {
    if (!inputs.some(({ cache }) => this.#replica.cache(cache).isLost)) return undefined;
    const message = "Cannot compute the step: an earlier one left nothing to go on from";
    return { error: { code: "internal", message }, isLost: true };
  }

  #compute(inputs: readonly FrameInput[], rows?: Float32Array<ArrayBuffer>): StepOutput | Failure {
    const read = inputs.reduce((sum, { count }) => sum + (count > 1 ? count : 0), 0);
    this.#counters.stepped(inputs.length, read);
    try {
      return this.#parts.part.run(inputs.map((input) => this.#sequence(input)), rows);
    } catch (cause) {
      const error = toAppError(brokenGroup(cause));
      if (error.code === "group_broken") throw error;
      return { error: error.toInfo(), isLost: cause instanceof StepLost };
    }
  }

  #sequence({ cache, offset, count, ids, logitsCount, draw }: FrameInput): SequenceInput {
    const { own } = this.#replica.cache(cache);
    assert(own.offset === offset, `cache ${cache} has ${own.offset} positions here, not ${offset}`);
    return { cache: own, ids: ids ?? new Array<number>(count).fill(0), logitsCount, draw };
  }

  #tell(
    { serial, inputs, blocksMax }: StepHeader,
    { failed, result }: { failed: Failure | undefined; result: StepOutput | undefined },
  ): void {
    const drawn = inputs.map(({ draw }, i) => draw && result ? result.drawn(i) : null);
    const header = encodeHeader({
      ...{ type: "outcome", serial, blocksMax },
      drawn: drawn.map((one) => one ?? null),
      ...(failed ? { failure: failed } : {}),
    });
    this.#parts.group.send(header, bodyOf(result && wantedLogits(inputs, result)));
  }

  /** The others are told first, and then all compute at once: their sums need each other. */
  #together(step: StepHeader): void {
    using _scope = new Scope();
    if (!this.#isLast) this.#forward(step);
    const output = this.#lost(step.inputs) ?? this.#compute(step.inputs);
    if ("error" in output) {
      const { message, hint } = output.error;
      const found =
        `Cannot go on with the other ranks: this one's part of a step failed: ${message}`;
      throw new AppError("group_broken", found, { hint });
    }
    if (this.#isLast) this.#tellDone(step);
  }

  #tellDone({ serial, blocksMax, kv, failure }: StepHeader, body?: Uint8Array): void {
    const failed = failure ? { failure } : {};
    this.#parts.group.send(
      encodeHeader({ type: "outcome", serial, drawn: [], blocksMax, kv, ...failed }),
      body,
    );
  }

  cancel(_taskId: TaskId): void {}

  /** Nothing: what is kept for requests to come is the first rank's to choose. */
  relieve(): void {}

  stats(): EngineCounts {
    const { part, now, kvBudgetBytes, group } = this.#parts;
    const kvBytes = part.cacheBytes;
    return this.#counters.counts({
      ...{ at: now(), running: 0, waitingSince: [], group: group.traffic?.() },
      memory: {
        weightBytes: memoryCounters().activeBytes - kvBytes,
        ...{
          kvBytes,
          prefixCacheBytes: 0,
          kvBudgetBytes: Math.floor(Math.max(0, kvBudgetBytes())),
        },
      },
    });
  }

  /** Caches and shares that it holds for the first rank. */
  get held(): number {
    return this.#replica.size;
  }

  close(): void {
    this.#replica[Symbol.dispose]();
    this.#parts.part[Symbol.dispose]();
    this.#parts.weights[Symbol.dispose]();
  }
}

/** Logits of those for whom no token is drawn, one after the other. */
function wantedLogits(
  inputs: readonly FrameInput[],
  output: StepOutput,
): Float32Array<ArrayBuffer> | undefined {
  const rows: Float32Array[] = [];
  let index = 0;
  for (const { logitsCount, draw } of inputs) {
    for (let i = 0; i < logitsCount; i++, index++) {
      if (!draw) rows.push(output.logits(index).toFloat32Array());
    }
  }
  const [first] = rows;
  if (!first) return undefined;
  const all = new Float32Array(rows.length * first.length);
  rows.forEach((row, i) => all.set(row, i * first.length));
  return all;
}

/** Two ranks that would compute parts of different models. */
function otherFiles({ rank, size, names: [first = "?", ...others] }: Group): AppError {
  const own = others[rank - 1] ?? "?";
  return new AppError(
    "load_failed",
    `Cannot load the model over ${size} nodes: its files on "${own}" are others than those on ` +
      `"${first}", although both have its id; the same needed on all`,
    { hint: `fetch the model again on "${own}", or, if that does not help, on "${first}"` },
  );
}
