import type { GroupTraffic } from "../../core/engine_stats.ts";
import { AppError, assert } from "../../core/errors.ts";
import type { KvLayer } from "../../ffi/mod.ts";
import type {
  CachePrefix,
  Decoder,
  KernelTimes,
  PendingStep,
  SequenceCache,
  SequenceInput,
  StepOutput,
} from "../decoder.ts";
import type { Group } from "../group.ts";
import { doneStep } from "../local_step.ts";
import { groupBlock, GroupCache, groupCache } from "./cache_log.ts";
import type { KvBytes } from "../prefill/kv_bytes.ts";
import { GroupKvBytes, kvName } from "./group_kv_bytes.ts";
import { GroupStep } from "./group_step.ts";
import { LOOK_MS, Rounds } from "./rounds.ts";
import { brokenGroup } from "./socket_group.ts";
import { bodyOf, type FrameInput } from "./step_frame.ts";

/** How a model is split over the ranks: by layers, or by the rows and columns of its matrices. */
export type Split = "pipeline" | "tensor";

/** What a {@linkcode GroupDecoder} is made of. */
export interface GroupDecoderOptions {
  readonly group: Group;
  readonly split: Split;
  /** This rank's part of the model; disposed of with the group's decoder. */
  readonly part: Decoder;
  /** What each layer of the whole model caches; absent: keys and values cannot travel. */
  readonly kvLayers?: readonly KvLayer[] | undefined;
  /** Of this rank's model files: those of all ranks must be the same. */
  readonly fingerprint: string;
  /** Milliseconds on a steady clock. */
  readonly now: () => number;
}

/** Steps of a tensor group whose end the last rank has yet to tell of. */
const TENSOR_LAG_MAX = 16;

/**
 * A model at work over the ranks of a group, on the first of them. What it does to its caches and
 * each step go to the others as one stream in one order, so that all hold the same at each step:
 * there is nothing that they would have to agree on.
 */
export class GroupDecoder implements Decoder {
  readonly #options: GroupDecoderOptions;
  readonly #rounds: Rounds;
  readonly #blockBytes: number;
  /** Steps that were sent and may not have come back. */
  #steps: number[] = [];
  readonly blockPositions: number;
  readonly copiesBlocks: boolean;
  readonly window: number | undefined;
  readonly stepsAtOnce: number;
  readonly #kvBytes: KvBytes | undefined;

  constructor(options: GroupDecoderOptions) {
    const { group, part, split, kvLayers: layers } = options;
    assert(group.rank === 0 && group.size > 1, "the first rank leads the others");
    this.#options = options;
    this.#rounds = new Rounds(options);
    this.blockPositions = part.blockPositions;
    this.copiesBlocks = part.copiesBlocks;
    this.window = part.window;
    this.stepsAtOnce = split === "pipeline" ? group.size : 1;
    const own = part.kvBytes;
    if (own && layers) {
      const ranks = group.size;
      this.#kvBytes = new GroupKvBytes({ own, rounds: this.#rounds, split, ranks, layers });
    }
    using empty = part.makeCache();
    this.#blockBytes = empty.bytesFor(part.blockPositions);
  }

  /** Undefined until all ranks have said that they keep keys and values alike, and where they do not. */
  get kvBytes(): KvBytes | undefined {
    return this.#rounds.kv === undefined ? undefined : this.#kvBytes;
  }

  get cacheBytes(): number {
    return this.#options.part.cacheBytes;
  }

  /** Bytes on this rank of what the one with the least memory could still hold, as far as known. */
  get spareBytes(): number {
    return this.#rounds.blocksMax * this.#blockBytes - this.cacheBytes;
  }

  kernelTimes(): KernelTimes | undefined {
    return this.#options.part.kernelTimes();
  }

  makeCache(prefix?: CachePrefix): SequenceCache {
    const { part } = this.#options;
    const blocks = prefix?.blocks.map((block) => block && groupBlock(block).own);
    const own = part.makeCache(prefix && blocks && { blocks, positions: prefix.positions });
    return new GroupCache(own, this.#rounds.log, prefix);
  }

  run(inputs: readonly SequenceInput[]): StepOutput {
    return this.launch(inputs).collect();
  }

  /**
   * A step of nothing: it tells when all ranks do steps, what memory they have, whether they keep
   * keys and values alike, and, as its failure, which of them has other files of the model than this
   * one. They may still load their parts, so that no time is set for it but what the group itself
   * allows for silence.
   */
  askAll(): PendingStep {
    const { fingerprint: weights } = this.#options;
    const kv = this.#kvBytes && kvName(this.#options.part.kvBytes);
    const serial = this.#rounds.send({ inputs: [], weights, kv });
    return new GroupStep(this.#rounds, { serial, inputs: [], sequences: [], msMax: Infinity });
  }

  traffic(): GroupTraffic | undefined {
    return this.#options.group.traffic?.();
  }

  /** What the others have room for is else known as of the last step: idle, it would never change. */
  ask(): void {
    while (this.#rounds.receive(0));
    if (this.#rounds.underWay === 0) this.#rounds.drop(this.#rounds.send({ inputs: [] }));
  }

  launch(inputs: readonly SequenceInput[]): PendingStep {
    return this.#options.split === "pipeline" ? this.#pipe(inputs) : this.#together(inputs);
  }

  /** This rank's layers, then on to the next rank. */
  #pipe(inputs: readonly SequenceInput[]): PendingStep {
    assert(this.#stepsUnderWay < this.stepsAtOnce, "no more steps than there are ranks");
    const sequences = inputs.map(frameInput);
    const own = inputs.map(({ cache, ids }) => ({
      cache: groupCache(cache).own,
      ids,
      logitsCount: 0,
    }));
    const rows = this.#options.part.run(own).hidden?.();
    assert(rows, "the first rank's part of a pipeline ends before the logits");
    const serial = this.#rounds.send({ inputs: sequences }, bodyOf(rows));
    this.#steps.push(serial);
    return new GroupStep(this.#rounds, { serial, inputs, sequences });
  }

  /** All ranks at once: the sums within the step keep them together. */
  #together(inputs: readonly SequenceInput[]): PendingStep {
    const { part } = this.#options;
    const sequences = inputs.map((input) => ({ ...frameInput(input), ids: [...input.ids] }));
    const serial = this.#rounds.send({ inputs: sequences });
    this.#rounds.drop(serial);
    this.#steps.push(serial);
    while (this.#rounds.receive(this.#stepsUnderWay > TENSOR_LAG_MAX ? LOOK_MS : 0));
    try {
      return doneStep(
        part.run(inputs.map((input) => ({ ...input, cache: groupCache(input.cache).own }))),
      );
    } catch (cause) {
      throw outOfStep(cause);
    }
  }

  get #stepsUnderWay(): number {
    this.#steps = this.#steps.filter((serial) => !this.#rounds.isBack(serial));
    return this.#steps.length;
  }

  flush(): void {
    this.#rounds.flush();
  }

  [Symbol.dispose](): void {
    this.#options.part[Symbol.dispose]();
  }
}

function frameInput({ cache, ids, logitsCount, draw }: SequenceInput): FrameInput {
  const { number, offset } = groupCache(cache);
  return { cache: number, offset, count: ids.length, logitsCount, ...(draw ? { draw } : {}) };
}

/** The other ranks wait for this one's part of a sum, which never comes. */
function outOfStep(error: unknown): AppError {
  const cause = brokenGroup(error);
  if (cause instanceof AppError && cause.code === "group_broken") return cause;
  const found = cause instanceof Error ? cause.message : String(cause);
  const message = `Cannot go on with the other ranks: this one's part of a step failed: ${found}`;
  return new AppError("group_broken", message, { cause });
}
