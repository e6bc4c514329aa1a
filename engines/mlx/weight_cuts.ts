import type { MatrixShape } from "./layers.ts";

/** Indices from `from` up to, not including, `to`. */
export interface IndexRange {
  readonly from: number;
  readonly to: number;
}

/** What a part of a model has of a matrix [outputs, inputs] or a vector [outputs]: all if left out. */
export interface Cut {
  readonly outputs?: IndexRange;
  readonly inputs?: IndexRange;
}

/** What a part of a model has of a checkpoint's weights. */
export interface WeightCuts {
  /** Its layers. */
  readonly layers: IndexRange;
  /** Its cut of the tensor of that Hugging Face name; undefined for one that only others have. */
  of(name: string): Cut | undefined;
}

/** All of a tensor. */
export const WHOLE: Cut = {};

/** The cuts of a model of that many layers which is in one part. */
export function wholeModel(layerCount: number): WeightCuts {
  return { layers: { from: 0, to: layerCount }, of: () => WHOLE };
}

/** How many indices a range has. */
export function lengthOf({ from, to }: IndexRange): number {
  return to - from;
}

/** The shape that a cut leaves. */
export function cutShape({ outputs, inputs }: MatrixShape, cut: Cut): MatrixShape {
  return {
    outputs: cut.outputs ? lengthOf(cut.outputs) : outputs,
    inputs: cut.inputs ? lengthOf(cut.inputs) : inputs,
  };
}

/**
 * What one of `size` ranks has of `count` indices, in whole units: contiguous, in the order of the
 * ranks, and of sizes that differ by one unit at most.
 */
export function shareOf(
  count: number,
  { rank, size, unit = 1 }: {
    readonly rank: number;
    readonly size: number;
    readonly unit?: number;
  },
): IndexRange {
  const units = count / unit;
  const end = (ranks: number) => Math.floor(ranks * units / size) * unit;
  return { from: end(rank), to: end(rank + 1) };
}
