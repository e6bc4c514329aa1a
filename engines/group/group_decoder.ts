import { AppError, assert } from "../../core/errors.ts";
import { fromArray, type RowDrawn, type Tensor } from "../../ffi/mod.ts";
import {
  type CachePrefix,
  type Decoder,
  type KernelTimes,
  type PendingStep,
  type SequenceCache,
  type SequenceInput,
  StepLost,
  type StepOutput,
} from "../decoder.ts";
import type { Group } from "../group.ts";
import { doneStep } from "../local_step.ts";
import { CacheLog, groupBlock, GroupCache } from "./cache_log.ts";
import {
  bodyOf,
  decodeFrame,
  encodeHeader,
  type FrameInput,
  notUnderstood,
  type OutcomeHeader,
  type StepHeader,
} from "./step_frame.ts";

/** How a model is split over the ranks: by layers, or by the rows and columns of its matrices. */
export type Split = "pipeline" | "tensor";

/** What a {@linkcode GroupDecoder} is made of. */
export interface GroupDecoderOptions {
  readonly group: Group;
  readonly split: Split;
  /** This rank's part of the model; disposed of with the group's decoder. */
  readonly part: Decoder;
  /** Milliseconds on a steady clock. */
  readonly now: () => number;
}

/** Longest that a step takes on its way through all ranks: paced, it is some hundred milliseconds. */
export const ROUND_MS_MAX = 120_000;

/** How long one look for what has come may wait; then the limit is looked at. */
const LOOK_MS = 1_000;

/** Steps of a tensor group whose end the last rank has yet to tell of. */
const TENSOR_LAG_MAX = 16;

/** What came back of a step. */
interface Outcome {
  readonly header: OutcomeHeader;
  readonly rows: Float32Array<ArrayBuffer>;
}

/**
 * A model at work over the ranks of a group, on the first of them. What it does to its caches and
 * each step go to the others as one stream in one order, so that all hold the same at each step:
 * there is nothing that they would have to agree on.
 */
export class GroupDecoder implements Decoder {
  readonly #options: GroupDecoderOptions;
  readonly #log: CacheLog;
  readonly #blockBytes: number;
  /** Steps that were sent, and those of them that came back. */
  #sent = 0;
  #returned = 0;
  /** What came back and was not collected yet. */
  readonly #outcomes = new Map<number, Outcome>();
  #blocksMax = Infinity;
  /** The last step that was sent for what its outcome says of memory alone. */
  #asked = -1;
  readonly blockPositions: number;
  readonly copiesBlocks: boolean;
  readonly window: number | undefined;
  readonly stepsAtOnce: number;

  constructor(options: GroupDecoderOptions) {
    const { group, part, split } = options;
    assert(group.rank === 0 && group.size > 1, "the first rank leads the others");
    this.#options = options;
    this.#log = new CacheLog(() => this.flush());
    this.blockPositions = part.blockPositions;
    this.copiesBlocks = part.copiesBlocks;
    this.window = part.window;
    this.stepsAtOnce = split === "pipeline" ? group.size : 1;
    using empty = part.makeCache();
    this.#blockBytes = empty.bytesFor(part.blockPositions);
  }

  get cacheBytes(): number {
    return this.#options.part.cacheBytes;
  }

  /** Bytes on this rank of what the one with the least memory could still hold, as far as known. */
  get spareBytes(): number {
    return this.#blocksMax * this.#blockBytes - this.cacheBytes;
  }

  kernelTimes(): KernelTimes | undefined {
    return this.#options.part.kernelTimes();
  }

  makeCache(prefix?: CachePrefix): SequenceCache {
    const { part } = this.#options;
    const blocks = prefix?.blocks.map((block) => block && groupBlock(block).own);
    const own = part.makeCache(prefix && blocks && { blocks, positions: prefix.positions });
    return new GroupCache(own, this.#log, prefix);
  }

  run(inputs: readonly SequenceInput[]): StepOutput {
    return this.launch(inputs).collect();
  }

  /**
   * A step of nothing: it tells when all ranks do steps, and what memory they have. They may still
   * load their parts, so that no time is set for it but what the group itself allows for silence.
   */
  askAll(): PendingStep {
    return this.#sentStep(this.#send([]), { inputs: [], sequences: [] }, Infinity);
  }

  /** What the others have room for is else known as of the last step: idle, it would never change. */
  ask(): void {
    while (this.#receive(0));
    if (this.#sent === this.#returned) this.#asked = this.#send([]);
  }

  launch(inputs: readonly SequenceInput[]): PendingStep {
    return this.#options.split === "pipeline" ? this.#pipe(inputs) : this.#together(inputs);
  }

  /** This rank's layers, then on to the next rank. */
  #pipe(inputs: readonly SequenceInput[]): PendingStep {
    const { part } = this.#options;
    const asks = this.#asked >= this.#returned ? 1 : 0;
    const underWay = this.#sent - this.#returned - asks;
    assert(underWay < this.stepsAtOnce, "no more steps than there are ranks");
    const sequences = inputs.map(frameInput);
    const own = inputs.map(({ cache, ids }) => ({
      cache: groupCache(cache).own,
      ids,
      logitsCount: 0,
    }));
    const rows = part.run(own).hidden?.();
    assert(rows, "the first rank's part of a pipeline ends before the logits");
    return this.#sentStep(this.#send(sequences, rows), { inputs, sequences });
  }

  #sentStep(
    serial: number,
    step: Pick<SentStep, "inputs" | "sequences">,
    msMax = ROUND_MS_MAX,
  ): PendingStep {
    const { now } = this.#options;
    return new GroupStep(this, { ...step, serial, sentAt: now(), msMax, now });
  }

  /** All ranks at once: the sums within the step keep them together. */
  #together(inputs: readonly SequenceInput[]): PendingStep {
    const { part } = this.#options;
    const sequences = inputs.map((input) => ({ ...frameInput(input), ids: [...input.ids] }));
    this.#send(sequences);
    while (this.#receive(this.#sent - this.#returned > TENSOR_LAG_MAX ? LOOK_MS : 0));
    this.#outcomes.clear();
    try {
      return doneStep(
        part.run(inputs.map((input) => ({ ...input, cache: groupCache(input.cache).own }))),
      );
    } catch (cause) {
      throw outOfStep(cause);
    }
  }

  flush(): void {
    if (this.#log.isEmpty) return;
    this.#post({ inputs: [], returns: false });
  }

  #send(inputs: readonly FrameInput[], rows?: Float32Array<ArrayBuffer>): number {
    this.#post({ inputs: [...inputs], returns: true }, rows);
    return this.#sent++;
  }

  #post(step: Pick<StepHeader, "inputs" | "returns">, rows?: Float32Array<ArrayBuffer>): void {
    const operations = this.#log.take();
    const header = encodeHeader({
      ...{ type: "step", serial: this.#sent, operations, blocksMax: null },
      ...step,
    });
    this.#options.group.send(header, bodyOf(rows));
  }

  /** What came back of a step; waits for it `ms` at most. */
  outcome(serial: number, ms: number): Outcome | undefined {
    while (!this.#outcomes.has(serial) && this.#receive(0));
    if (!this.#outcomes.has(serial) && ms > 0) this.#receive(ms);
    return this.#outcomes.get(serial);
  }

  /** What came back; it is not there any more then. */
  take(serial: number): Outcome {
    const outcome = this.#outcomes.get(serial);
    assert(outcome, "a step is collected once, when it has come back");
    this.#outcomes.delete(serial);
    return outcome;
  }

  /** Takes what comes next, within `ms`; whether anything did. */
  #receive(ms: number): boolean {
    const { group } = this.#options;
    const bytes = group.receive(ms);
    if (!bytes) return false;
    const from = group.names[group.size - 1] ?? "?";
    const { header, rows } = decodeFrame(bytes, from);
    if (header.type !== "outcome" || header.serial !== this.#returned) {
      throw notUnderstood(from, `the ${header.type} of step ${header.serial}`);
    }
    if (this.#returned >= this.#sent) throw notUnderstood(from, "what nobody asked for");
    this.#returned++;
    this.#blocksMax = header.blocksMax ?? Infinity;
    if (header.serial !== this.#asked) this.#outcomes.set(header.serial, { header, rows });
    return true;
  }

  [Symbol.dispose](): void {
    this.#options.part[Symbol.dispose]();
  }
}

/** A step as it was sent. */
interface SentStep {
  readonly serial: number;
  readonly sentAt: number;
  /** How long it may take. */
  readonly msMax: number;
  readonly now: () => number;
  readonly inputs: readonly SequenceInput[];
  readonly sequences: readonly FrameInput[];
}

/** A step on its way through the ranks of a pipeline. */
class GroupStep implements PendingStep {
  readonly #decoder: GroupDecoder;
  readonly #sent: SentStep;

  constructor(decoder: GroupDecoder, sent: SentStep) {
    this.#decoder = decoder;
    this.#sent = sent;
  }

  get isDone(): boolean {
    return this.wait(0);
  }

  wait(ms: number): boolean {
    const { serial, sentAt, msMax, now } = this.#sent;
    if (this.#decoder.outcome(serial, ms)) return true;
    if (now() - sentAt > msMax) throw tooLong(now() - sentAt);
    return false;
  }

  collect(): StepOutput {
    const { serial, inputs, sequences } = this.#sent;
    while (!this.wait(LOOK_MS));
    const { header: { drawn, failure }, rows } = this.#decoder.take(serial);
    if (!failure) return shown(inputs, { drawn, rows });
    // Nobody knows what is in them on which rank.
    inputs.forEach(({ cache }, i) => {
      const was = sequences[i]?.cache;
      if (was !== undefined && groupCache(cache).isKnownAs(was)) cache[Symbol.dispose]();
    });
    if (failure.isLost) throw new StepLost(failure.error.message);
    throw AppError.from(failure.error);
  }
}

/** What the last rank says of a step, as the decoder of a whole model would. */
function shown(
  inputs: readonly SequenceInput[],
  { drawn, rows }: { drawn: OutcomeHeader["drawn"]; rows: Float32Array<ArrayBuffer> },
): StepOutput {
  const kept = inputs.flatMap(({ logitsCount, draw }) =>
    Array.from({ length: logitsCount }, () => draw === undefined)
  );
  const count = kept.filter((isKept) => isKept).length;
  const width = count > 0 ? rows.length / count : 0;
  return {
    drawn: (sequence): RowDrawn => {
      const one = drawn[sequence];
      assert(one, "what was drawn is asked of those that wanted it");
      return one;
    },
    logits: (index): Tensor => {
      assert(kept[index], "logits are shown of those for whom no token is drawn");
      const at = kept.slice(0, index).filter((isKept) => isKept).length * width;
      return fromArray(rows.slice(at, at + width));
    },
  };
}

function frameInput({ cache, ids, logitsCount, draw }: SequenceInput): FrameInput {
  const { number, offset } = groupCache(cache);
  return { cache: number, offset, count: ids.length, logitsCount, ...(draw ? { draw } : {}) };
}

function groupCache(cache: SequenceCache): GroupCache {
  assert(cache instanceof GroupCache, "a sequence's cache comes from the decoder that runs it");
  return cache;
}

function tooLong(ms: number): AppError {
  const found = `Cannot go on with the answers: a step is on its way through the ranks for ` +
    `${Math.round(ms / 1_000)} s, at most ${ROUND_MS_MAX / 1_000} s possible`;
  return new AppError("group_broken", found, { hint: "look what else the nodes do" });
}

/** The other ranks wait for this one's part of a sum, which never comes. */
function outOfStep(cause: unknown): AppError {
  if (cause instanceof AppError && cause.code === "group_broken") return cause;
  const found = cause instanceof Error ? cause.message : String(cause);
  const message = `Cannot go on with the other ranks: this one's part of a step failed: ${found}`;
  return new AppError("group_broken", message, { cause });
}
