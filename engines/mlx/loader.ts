import { clearCache, deviceInfo, type Dtype, evalAll, Scope, type Tensor } from "../../ffi/mod.ts";
import type { LoadProgress } from "../engine.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { Weights } from "./weights.ts";

/** Types that are cast to f32 where there is no GPU: MLX computes in them 8 to 40 times slower. */
const HALVES: readonly Dtype[] = ["float16", "bfloat16"];

/**
 * Brings a checkpoint's weights into memory layer by layer, yielding after each. What a layer was
 * made from is freed before the next one, so that memory stays near once the weights.
 * @throws {AppError | NativeError} when the files cannot be read.
 */
export function* loadWeights(
  checkpoint: Checkpoint,
  layerCount: number,
): Generator<LoadProgress, Weights> {
  const waiting = checkpoint.openWeights();
  const ready = new Map<string, Tensor>();
  let isComplete = false;
  try {
    const layers = Array.from({ length: layerCount }, (_, i) => `model.layers.${i}.`);
    const names = [...waiting.keys()];
    bring(names.filter((name) => !layers.some((l) => name.startsWith(l))), { waiting, ready });
    for (const [i, layer] of layers.entries()) {
      bring(names.filter((name) => name.startsWith(layer)), { waiting, ready });
      yield { layersLoaded: i + 1, totalLayers: layerCount };
    }
    isComplete = true;
    return new Weights(ready, (path) => checkpoint.quantizationOf(path));
  } finally {
    // Also when the caller stops half-way.
    const left = isComplete ? [] : [...waiting.values(), ...ready.values()];
    for (const tensor of left) tensor[Symbol.dispose]();
  }
}

/** Computes some of the waiting tensors, in the type that this device likes best. */
function bring(
  names: readonly string[],
  { waiting, ready }: { waiting: Map<string, Tensor>; ready: Map<string, Tensor> },
): void {
  using scope = new Scope();
  const isCpu = deviceInfo()["type"] === "cpu";
  const group = names.map((name): [string, Tensor] => {
    const tensor = waiting.get(name) as Tensor;
    const isCast = isCpu && HALVES.includes(tensor.dtype);
    return [name, scope.keep((isCast ? tensor.astype("float32") : tensor).contiguous())];
  });
  evalAll(group.map(([, tensor]) => tensor));
  for (const [name, tensor] of group) {
    ready.set(name, tensor);
    waiting.get(name)?.[Symbol.dispose]();
    waiting.delete(name);
  }
  clearCache(); // What the next layer needs has other sizes.
}
