import { deviceInfo, type RowDraw, type RowDrawn, type Tensor, where } from "../ffi/mod.ts";
import { CpuDecoder } from "./cpu/cpu_decoder.ts";
import { MlxDecoder } from "./mlx/mlx_decoder.ts";
import type { TextModel } from "./models/text_model.ts";

/** The keys and values of one sequence over all layers. */
export interface SequenceCache extends Disposable {
  /** Positions filled so far. */
  readonly offset: number;
  /** Bytes held: what active memory has more because of this sequence. */
  readonly bytes: number;
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
  makeCache(): SequenceCache;
  /** Runs one step and extends the caches. A sequence's outcome does not depend on the others. */
  run(sequences: readonly SequenceInput[]): StepOutput;
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

/** The decoder for a model whose weights are packed for the CPU kernels, or are not. */
export function decoderOf(model: TextModel, isPacked: boolean): Decoder {
  return isPacked ? new CpuDecoder(model) : new MlxDecoder(model);
}
