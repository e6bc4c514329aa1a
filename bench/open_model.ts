/** Models for benchmarks that have no node: bound as a node does it, and opened without an engine. */
import { basename } from "node:path";
import { modelCardFromGguf } from "../core/gguf.ts";
import { ModelId } from "../core/ids.ts";
import { type Decoder, decoderOf } from "../engines/decoder.ts";
import type { BoundModel } from "../engines/engine.ts";
import { openCheckpoint } from "../engines/mlx/checkpoint.ts";
import { loadWeights } from "../engines/mlx/loader.ts";
import { buildModel } from "../engines/models/mod.ts";
import { partOf } from "../engines/models/part.ts";
import { readGgufHeader } from "../engines/text/gguf_file.ts";

/** The whole model of a GGUF file, as a node binds it to a runner. */
export function bindModel(path: string, fileBytes: number): BoundModel {
  const file = basename(path);
  const modelId = ModelId.parse(`local/${file}`);
  const modelCard = modelCardFromGguf(readGgufHeader(path), { modelId, file, fileBytes });
  const { nLayers } = modelCard;
  const ranks = { deviceRank: 0, worldSize: 1, startLayer: 0, endLayer: nLayers, nLayers };
  return {
    shard: { type: "PipelineShardMetadata", modelCard, ...ranks },
    modelPath: path,
    config: {},
  };
}

/** A model in memory, for who steps it without an engine; leaving the block frees it. */
export interface OpenModel extends Disposable {
  readonly decoder: Decoder;
  readonly vocabSize: number;
}

/** Loads a model and makes its decoder. */
export function openModel({ modelPath, shard }: BoundModel): OpenModel {
  const checkpoint = openCheckpoint(modelPath);
  const loading = loadWeights(checkpoint, partOf(shard));
  let part = loading.next();
  while (!part.done) part = loading.next();
  const weights = part.value;
  const model = buildModel(checkpoint.config, weights);
  const decoder = decoderOf(model, weights.isPacked);
  return {
    decoder,
    vocabSize: model.vocabSize,
    [Symbol.dispose]() {
      decoder[Symbol.dispose]();
      weights[Symbol.dispose]();
    },
  };
}

/** Ids that make a prompt of no meaning; another `serial` begins in another way. */
export function anyIds(length: number, { serial, vocabSize }: AnyIds): number[] {
  return Array.from({ length }, (_, at) => (serial * 7919 + at) % vocabSize);
}

/** What {@linkcode anyIds} depends on. */
export interface AnyIds {
  readonly serial: number;
  readonly vocabSize: number;
}
