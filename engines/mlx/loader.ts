import { clearCache } from "../../ffi/mod.ts";
import type { LoadProgress } from "../engine.ts";
import { usesCpuKernels } from "../decoder.ts";
import { weightCuts } from "../models/mod.ts";
import type { ModelPart } from "../models/part.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { lengthOf, type WeightCuts, wholeModel } from "./weight_cuts.ts";
import type { WeightEntry, WeightSource } from "./weight_source.ts";
import { Weights } from "./weights.ts";

/** How weights are brought into memory. */
export interface LoadOptions {
  /** Whether matrices are packed for the CPU kernels: by default where there is no GPU. */
  readonly isPacked?: boolean;
  /** What {@linkcode openWeights} gave earlier, so that work has begun; freed at the end. */
  readonly opened?: WeightSource;
}

/**
 * The weights of a part of a model, whose reading may begin at once in the background.
 * @throws {AppError} `unsupported_model` when the model cannot be divided so, and what
 * {@linkcode Checkpoint.openWeights} throws.
 */
export function openWeights(
  checkpoint: Checkpoint,
  part: ModelPart,
  isPacked = usesCpuKernels(),
): WeightSource {
  return checkpoint.openWeights(isPacked, cutsOf(checkpoint, part, isPacked));
}

function cutsOf(checkpoint: Checkpoint, part: ModelPart, isPacked: boolean): WeightCuts {
  const { config, wording } = checkpoint;
  if (part.type === "whole") return wholeModel(Number(config["num_hidden_layers"]));
  const groupOf = (path: string) => checkpoint.groupOf(path, isPacked);
  return weightCuts(config, { part, groupOf, wording });
}

/**
 * Brings the weights of a part of a checkpoint into memory, layer by layer, yielding after each of
 * its layers. What a weight was made from is freed before the next one, so that memory stays near
 * once the weights.
 * @throws {AppError | NativeError} when the files cannot be read, or not divided so.
 */
export function* loadWeights(
  checkpoint: Checkpoint,
  part: ModelPart,
  { isPacked = usesCpuKernels(), opened }: LoadOptions = {},
): Generator<LoadProgress, Weights> {
  using source = opened ?? openWeights(checkpoint, part, isPacked);
  // Freed also when the caller stops half-way.
  using loading = new DisposableStack();
  const { quantizationOf, wording } = checkpoint;
  const { cuts } = source;
  const weights = loading.use(new Weights({ isPacked, quantizationOf, cuts, wording }));
  const layerCount = lengthOf(cuts.layers);
  const layers = Array.from(
    { length: layerCount },
    (_, i) => `model.layers.${cuts.layers.from + i}.`,
  );
  const layerOf = ({ name }: WeightEntry) => layers.findIndex((layer) => name.startsWith(layer));
  const groups = Map.groupBy(source.entries, layerOf);
  load(weights, groups.get(-1));
  for (let layer = 0; layer < layerCount; layer++) {
    load(weights, groups.get(layer));
    yield { layersLoaded: layer + 1, totalLayers: layerCount };
  }
  loading.move();
  return weights;
}

function load(weights: Weights, entries: readonly WeightEntry[] = []): void {
  for (const entry of entries) weights.add(entry.name, entry.load());
  clearCache(); // What the next layer needs has other sizes.
}
