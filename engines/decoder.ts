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

/** The next tokens of a sequence: they come after those in its cache. */
export interface SequenceInput {
  readonly cache: SequenceCache;
  readonly ids: readonly number[];
  /** After how many of the last of them logits are wanted. */
  readonly logitsCount: number;
}

/** Logits [V] after the tokens that they were wanted for, in order; they live until the next step. */
export interface StepOutput {
  /** The likeliest token; 0 where there is none, since all are NaN or -Infinity. */
  best(index: number): number;
  /** float32 [V], in the innermost scope. */
  logits(index: number): Tensor;
  /** Draws from the rows that are named, in one call. */
  sample(draws: readonly RowDraw[]): RowDrawn[];
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
  /**
   * Runs one step and extends the caches. A sequence's outcome does not depend on the others.
   * @throws when it could not be computed. The caches are as they were then, or, where that was
   * lost, empty: `offset` tells.
   */
  run(sequences: readonly SequenceInput[]): StepOutput;
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
