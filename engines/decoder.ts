import { deviceInfo, type RowDraw, type RowDrawn, type Tensor, where } from "../ffi/mod.ts";
import { CpuDecoder } from "./cpu/cpu_decoder.ts";
import type { KvBits } from "./kv_codec.ts";
import { MlxDecoder } from "./mlx/mlx_decoder.ts";
import type { KvBytes } from "./prefill/kv_bytes.ts";
import type { TextModel } from "./models/text_model.ts";

/**
 * A share of the keys and values of up to {@linkcode Decoder.blockPositions} consecutive positions,
 * over all layers. Disposing gives the share back; the memory goes with the last one.
 */
export interface KvBlock extends Disposable {
  /** Bytes that would go with this share: 0 while others hold the block. */
  readonly ownBytes: number;
  /**
   * Where in it a sequence can go on: after any of its positions unless it says otherwise. A state
   * that is not kept by position, as recurrent layers have, is there at a block's end or not at all.
   */
  readonly resumes?: "anywhere" | "end" | "nowhere";
}

/** What a sequence begins with: `positions` positions of these blocks. */
export interface CachePrefix {
  /**
   * In order from position 0; the last may be used in part. Those may be missing that no later row
   * sees, whose end is at most `positions + 1 - Decoder.window`.
   */
  readonly blocks: readonly (KvBlock | undefined)[];
  readonly positions: number;
}

/** The keys and values of one sequence over all layers. */
export interface SequenceCache extends Disposable {
  /** Positions filled so far. */
  readonly offset: number;
  /** Bytes of the blocks that it holds, shared ones included. */
  readonly bytes: number;
  /**
   * Bytes that the decoder would hold more if `count` positions were added in one step; the copy of
   * a shared, partly filled block is among them. In steps of `stepTokens` each: the most that it
   * would hold more at any time, which a window limits.
   */
  bytesFor(count: number, stepTokens?: number): number;
  /**
   * A share of block `index`: positions [index × blockPositions, …) as far as they are filled; at
   * least one is. Undefined when the window has left it behind.
   */
  share(index: number): KvBlock | undefined;
}

/** How a token is drawn after the last one of a sequence. */
export type TokenDraw = Omit<RowDraw, "row">;

/** Takes the likeliest token, and tells nothing of the others: the cheapest of draws. */
export const GREEDY: TokenDraw = {
  ...{ temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 },
  ...{ seed: 0n, index: 0, adjustments: new Float64Array(0) },
};

/** The next tokens of a sequence: they come after those in its cache. */
export interface SequenceInput {
  readonly cache: SequenceCache;
  readonly ids: readonly number[];
  /** After how many of the last of them logits are wanted; 1 at least if a token is drawn. */
  readonly logitsCount: number;
  /** How a token is drawn after the last of them; absent: none is. */
  readonly draw?: TokenDraw | undefined;
}

/** What a step gave. */
export interface StepOutput {
  /** What was drawn for the sequence of this index, one with a `draw`. */
  drawn(sequence: number): RowDrawn;
  /**
   * Logits float32 [V] after the tokens that they were wanted for, in order, in the innermost scope;
   * only before the next step, and of sequences without a `draw`: where a token was drawn in
   * another place, its logits stay there.
   */
  logits(index: number): Tensor;
  /** Hidden states [M, D] of a part that ends before the logits; only before the next step. */
  hidden?(): Float32Array<ArrayBuffer>;
}

/**
 * A step that was not computed, since what its caches began with was lost in one before it: as good
 * as new ones once they are computed anew.
 */
export class StepLost extends Error {
  override readonly name = "StepLost";
}

/** A step that was launched. */
export interface PendingStep {
  /** Whether `collect` would wait for nothing. */
  readonly isDone: boolean;
  /** Waits until it is done, `ms` at most; whether it is. */
  wait(ms: number): boolean;
  /**
   * Its output; waits for it. Once, and in the order in which steps were launched.
   * @throws when it could not be computed. The caches are as they were then, or, where that was
   * lost, empty: `offset` tells.
   */
  collect(): StepOutput;
}

/** Time that kernels took so far, in milliseconds by kind of operation. */
export type KernelTimes = Readonly<Record<string, number>>;

/** A model at work on sequences, each with a cache that this made. */
export interface Decoder extends Disposable {
  /** Positions of a block. */
  readonly blockPositions: number;
  /** Last positions that a row sees, its own included, in every layer; all where undefined. */
  readonly window?: number | undefined;
  /** Whether a share of a block is a copy, with memory of its own. */
  readonly copiesBlocks: boolean;
  /** Bytes of all blocks that anyone holds, each once. */
  readonly cacheBytes: number;
  /**
   * A cache that is empty, or begins with a prefix: it takes shares of its own, the caller keeps
   * its own.
   */
  makeCache(prefix?: CachePrefix): SequenceCache;
  /** Most steps that are launched and not collected: with more, nothing would be done sooner. */
  readonly stepsAtOnce: number;
  /**
   * Launches one step and extends the caches. A sequence's outcome does not depend on the others.
   * @throws as {@linkcode PendingStep.collect} does, if it shows that early.
   */
  launch(sequences: readonly SequenceInput[], rows?: Float32Array<ArrayBuffer>): PendingStep;
  /**
   * A step from launch to output. `rows` are the hidden states [M, D] of all tokens, for a decoder
   * whose model does not begin with the embedding.
   * @throws as {@linkcode PendingStep.collect} does.
   */
  run(sequences: readonly SequenceInput[], rows?: Float32Array<ArrayBuffer>): StepOutput;
  /** Tells other ranks what they have yet to be told, though there is no step; absent: none are. */
  flush?(): void;
  /**
   * Has other ranks say what memory they have, unless a step that is on its way will tell; absent:
   * there are none. The answer comes while other things are done.
   */
  ask?(): void;
  /** Absent where keys and values cannot be sent to another engine. */
  readonly kvBytes?: KvBytes | undefined;
  /** What the kernels took since the decoder was made; undefined where nobody measures it. */
  kernelTimes(): KernelTimes | undefined;
}

/** The index of the largest of logits [V]: NaN, which is MLX's largest, never is. */
export function likeliest(logits: Tensor): number {
  return where(logits.equal(logits), logits, -Infinity).argmax().item();
}

/** Whether models run on our own kernels here: MLX's are made for GPUs. */
export function usesCpuKernels(): boolean {
  return deviceInfo()["type"] === "cpu";
}

/** Settings of {@linkcode decoderOf}. */
export interface DecoderOptions {
  /** Bits of a cached key or value; absent: as the device keeps them best, 16 mostly. */
  readonly kvBits?: KvBits;
}

/** The decoder for a model whose weights are packed for the CPU kernels, or are not. */
export function decoderOf(
  model: TextModel,
  isPacked: boolean,
  { kvBits }: DecoderOptions = {},
): Decoder {
  if (!isPacked) return new MlxDecoder(model, { kvBits });
  return new CpuDecoder(model, kvBits === undefined ? {} : { kvDtype: `q${kvBits}` });
}
