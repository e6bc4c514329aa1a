import { AppError } from "../../core/errors.ts";
import type { Shard } from "../../core/instance.ts";
import type { Tensor } from "../../ffi/mod.ts";
import { type IndexRange, shareOf } from "../mlx/weight_cuts.ts";

/** All of a model. */
export interface WholeModel {
  readonly type: "whole";
}

/** Layers [startLayer, endLayer) of a pipeline; the first has the embedding, the last the head. */
export interface ModelStage {
  readonly type: "stage";
  readonly startLayer: number;
  readonly endLayer: number;
  /** Of the whole model. */
  readonly layers: number;
}

/** Some heads and features of all layers, in tensor parallel. */
export interface ModelSlice {
  readonly type: "slice";
  readonly rank: number;
  readonly size: number;
  /** Adds up the ranks' rows [M, D], of which each rank gets the sum. */
  readonly sum: (x: Tensor) => Tensor;
  /**
   * Whether each rank has a share of the embedding's rows and of the head's, {@linkcode vocabularyOf}
   * it; else all have the embedding and rank 0 the head. One more sum a step, and logits to gather,
   * for less memory and a head that is computed by all.
   */
  readonly splitsVocabulary?: boolean;
}

/** What a rank has of a model. */
export type ModelPart = WholeModel | ModelStage | ModelSlice;

/** A model that is in one part. */
export const WHOLE_MODEL: WholeModel = { type: "whole" };

/** The ids whose embedding and logits a rank has where a slice splits the vocabulary. */
export function vocabularyOf(
  vocabSize: number,
  { rank, size }: Pick<ModelSlice, "rank" | "size">,
): IndexRange {
  return shareOf(vocabSize, { rank, size });
}

/** Whether a part has but a share of the vocabulary. */
export function splitsVocabulary(
  part: ModelPart,
): part is ModelSlice & { readonly splitsVocabulary: true } {
  return part.type === "slice" && part.splitsVocabulary === true;
}

/** What a part has of the model's ends and layers. */
export interface PartExtent {
  readonly layers: IndexRange;
  readonly hasEmbedding: boolean;
  readonly hasHead: boolean;
}

/** Which layers, and which of its ends, a part of a model of `layerCount` layers has. */
export function extentOf(part: ModelPart, layerCount: number): PartExtent {
  if (part.type !== "stage") {
    const hasHead = part.type === "whole" || splitsVocabulary(part) || part.rank === 0;
    return { layers: { from: 0, to: layerCount }, hasEmbedding: true, hasHead };
  }
  const { startLayer: from, endLayer: to, layers } = part;
  if (layers !== layerCount || from < 0 || from >= to || to > layers) {
    throw new AppError(
      "load_failed",
      `Cannot load layers ${from} to ${to} of ${layers}: the model has ${layerCount} layers`,
      { hint: "the model's files and its card are of two models; fetch both again" },
    );
  }
  return { layers: { from, to }, hasEmbedding: from === 0, hasHead: to === layers };
}

/**
 * The part of a model that a shard is; `sum` is that of its group, which a tensor shard of several
 * needs.
 * @throws {AppError} `load_failed` for a shard of a model that is none of ours.
 */
export function partOf(
  shard: Shard,
  sum?: ModelSlice["sum"],
  options: Pick<ModelSlice, "splitsVocabulary"> = {},
): ModelPart {
  const { deviceRank: rank, worldSize: size, startLayer, endLayer, nLayers: layers } = shard;
  if (size === 1 && startLayer === 0 && endLayer === layers) return WHOLE_MODEL;
  if (shard.type === "PipelineShardMetadata") {
    return { type: "stage", startLayer, endLayer, layers };
  }
  if (shard.type === "TensorShardMetadata" && sum) {
    return { type: "slice", rank, size, sum, ...options };
  }
  const found = shard.type === "TensorShardMetadata" ? "no group" : shard.type;
  throw new AppError(
    "load_failed",
    `Cannot load rank ${rank} of ${size} of a text model: ${found} found, ` +
      "a pipeline's shard, or a tensor shard in a group, needed",
    { hint: "place the model anew: exo instance create MODEL" },
  );
}
