import type { KvLayer, Tensor } from "../../ffi/mod.ts";
import type { IndexRange } from "../mlx/weight_cuts.ts";
import type { Rotary } from "./rope.ts";

/** What a layer caches, and how far back its rows see. */
export interface CachedLayer extends KvLayer {
  /** Last positions that a row sees, its own included; all if left out. */
  readonly window?: number | undefined;
}

/**
 * A language model over its weights, or the part of one that a rank has: what a decoder asks of each
 * architecture.
 */
export interface TextModel {
  /** What each of its own layers caches; their indices count from the first of them. */
  readonly kvLayers: readonly CachedLayer[];
  /**
   * What each layer of the whole model caches, with all its heads: what its parts have together.
   * Absent: nobody has a part of it.
   */
  readonly wholeKvLayers?: readonly KvLayer[];
  /**
   * Last positions that a row sees in some layer of the whole model, Infinity where one sees all: so
   * that all parts of it keep the same positions. Absent: what its own layers say.
   */
  readonly window?: number;
  /** Whether its layers sum over ranks, so that each rank must compute all that the others do. */
  readonly sums?: boolean;
  /** Of the whole model. */
  readonly vocabSize: number;
  /** Ids whose logits it gives: all, or its share where a slice splits the vocabulary. */
  readonly vocabulary: IndexRange;
  /** Features of a hidden state, D. */
  readonly hiddenSize: number;
  /** Most positions that the model was made for. */
  readonly contextTokens: number;
  /** Token ids [M] of one or more sequences to hidden states [M, D]; only where layers begin. */
  readonly embed?: (ids: Tensor) => Tensor;
  /** Hidden states [M, D] before its own layers to those after them. */
  layers(x: Tensor, attend: Attend): Tensor;
  /** Hidden states [R, D] after all layers to logits [R, vocabulary]; only where there is a head. */
  readonly logits?: (hidden: Tensor) => Tensor;
}

/** What attention of a layer is. */
export interface AttentionOptions {
  readonly layer: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Multiplies the scores. */
  readonly scale: number;
  readonly rotary: Rotary;
  /** Last positions that a row sees, its own included; all if left out. */
  readonly window?: number;
}

/** Queries [M, heads × headDim], keys and values [M, kvHeads × headDim], not turned yet. */
export interface AttentionRows {
  readonly queries: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
}

/**
 * Causal attention, each row within its own sequence: turns queries and keys by their positions,
 * adds keys and values to the sequences' caches, and gives [M, heads × headDim]. What knows which
 * row is which is behind it, so that a model is the same on every backend and for any batch.
 */
export type Attend = (rows: AttentionRows, options: AttentionOptions) => Tensor;

/** Last positions that a row sees in some layer; undefined where one of them sees all. */
export function widestWindow(
  { kvLayers, window }: Pick<TextModel, "kvLayers" | "window">,
): number | undefined {
  const widest = window ?? Math.max(...kvLayers.map(({ window }) => window ?? Infinity));
  return Number.isFinite(widest) ? widest : undefined;
}
