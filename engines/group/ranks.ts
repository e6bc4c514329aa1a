import { AppError } from "../../core/errors.ts";
import type { Shard } from "../../core/instance.ts";
import type { LoadProgress } from "../engine.ts";
import type { Group } from "../group.ts";
import { type ModelPart, partOf } from "../models/part.ts";
import type { GroupDecoder, Split } from "./group_decoder.ts";

/** How long one look for the other ranks may take, so that the runner hears of commands. */
const LOOK_MS = 20;

/**
 * What a rank has of a model.
 * @throws {AppError} `load_failed` where it is one of several, and has not met the others.
 */
export function partIn(shard: Shard, group: Group | undefined): ModelPart {
  const { deviceRank: rank, worldSize: size } = shard;
  if (size > 1 && (group?.size !== size || group.rank !== rank)) {
    const found = group ? `rank ${group.rank} of ${group.size}` : "no group";
    throw new AppError(
      "load_failed",
      `Cannot load rank ${rank} of ${size}: ${found} was joined, the other ranks needed`,
      { hint: "place the model anew: exo instance create MODEL" },
    );
  }
  return partOf(shard, group && ((x) => group.sum(x)));
}

/** How a shard splits its model. */
export function splitOf({ type }: Shard): Split {
  return type === "TensorShardMetadata" ? "tensor" : "pipeline";
}

/** Progress but for its end, which is there only once all ranks have got so far. */
export function* heldBack<T>(
  loading: Generator<LoadProgress, T, void>,
): Generator<LoadProgress, T, void> {
  while (true) {
    const { done, value } = loading.next();
    if (done) return value;
    if (value.layersLoaded < value.totalLayers) yield value;
  }
}

/**
 * Waits until all ranks do steps, and have told what memory they have.
 * @throws {AppError} `group_broken` when one of them is gone.
 */
export function* meetLoaded(
  decoder: GroupDecoder,
  totalLayers: number,
): Generator<LoadProgress, void, void> {
  const step = decoder.askAll();
  while (!step.wait(LOOK_MS)) yield { layersLoaded: totalLayers - 1, totalLayers };
  step.collect();
  yield { layersLoaded: totalLayers, totalLayers };
}
