import { clearCache } from "../../ffi/mod.ts";
import type { LoadProgress } from "../engine.ts";
import { usesCpuKernels } from "../decoder.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { WeightEntry, WeightSource } from "./weight_source.ts";
import { Weights } from "./weights.ts";

/** How weights are brought into memory. */
export interface LoadOptions {
  /** Whether matrices are packed for the CPU kernels: by default where there is no GPU. */
  readonly isPacked?: boolean;
  /** The source, opened earlier so that work on it has begun; freed at the end. */
  readonly opened?: WeightSource;
}

/**
 * Brings a checkpoint's weights into memory layer by layer, yielding after each. What a weight was
 * made from is freed before the next one, so that memory stays near once the weights.
 * @throws {AppError | NativeError} when the files cannot be read.
 */
export function* loadWeights(
  checkpoint: Checkpoint,
  layerCount: number,
  { isPacked = usesCpuKernels(), opened }: LoadOptions = {},
): Generator<LoadProgress, Weights> {
  using source = opened ?? checkpoint.openWeights(isPacked);
  // Freed also when the caller stops half-way.
  using loading = new DisposableStack();
  const { quantizationOf, wording } = checkpoint;
  const weights = loading.use(new Weights({ isPacked, quantizationOf, wording }));
  const layers = Array.from({ length: layerCount }, (_, i) => `model.layers.${i}.`);
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
