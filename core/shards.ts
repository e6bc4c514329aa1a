import { type Apportionment, divide } from "./apportion.ts";
import type { Shard } from "./instance.ts";
import type { ModelCard } from "./model_card.ts";

/** What a model is divided by. */
export interface Layout {
  readonly sharding: "Pipeline" | "Tensor";
  /** Bytes of the whole model, weights and KV. */
  readonly bytes: number;
  /** Free bytes of each rank's node. */
  readonly free: readonly number[];
  /** What messages call the ranks' nodes. */
  readonly names: readonly string[];
  /** Layers of each rank of a pipeline, where they are divided by hand. */
  readonly layers?: readonly number[] | undefined;
  /** Whether to divide although the memory does not suffice. */
  readonly isForced?: boolean | undefined;
}

/** A shard for each rank, or why there is no such division. */
export type Division =
  | { readonly ok: true; readonly shards: readonly Shard[] }
  | { readonly ok: false; readonly reason: string };

/** Divides a model over ranks (spec §3.3 to §3.5). */
export function shardsOf(card: ModelCard, layout: Layout): Division {
  const { free, sharding, layers } = layout;
  const worldSize = free.length;
  if (worldSize > 1 && sharding === "Tensor") {
    const type = "TensorShardMetadata" as const;
    const shards = free.map((_, rank) => ({
      type,
      ...slice(card, { rank, worldSize, start: 0, end: card.nLayers }),
    }));
    return { ok: true, shards };
  }
  if (card.usesCfg === true && worldSize % 2 === 0 && layers === undefined) {
    return guided(card, layout);
  }
  const divided = layers ? { ok: true as const, layers } : divideLayers(card, layout);
  if (!divided.ok) return divided;
  const ends = runningSums(divided.layers);
  const shards = ends.map((end, rank) => {
    const start = ends[rank - 1] ?? 0;
    return {
      type: "PipelineShardMetadata" as const,
      ...slice(card, { rank, worldSize, start, end }),
    };
  });
  return { ok: true, shards };
}

/**
 * Classifier-free guidance side by side: the ring's first half computes with the prompt, its
 * second half, backwards, with the negative one, so that their last stages are neighbours. Ranks
 * that mirror each other have the same layers, by the lesser memory of the two.
 */
function guided(card: ModelCard, { bytes, free, names, isForced }: Layout): Division {
  const worldSize = free.length;
  const half = worldSize / 2;
  const pairs = free.slice(0, half).map((one, rank) => {
    const mirror = worldSize - 1 - rank;
    const other = free[mirror] as number;
    return one <= other ? { free: one, name: names[rank] } : { free: other, name: names[mirror] };
  });
  const divided = divideLayers(card, {
    bytes,
    free: pairs.map(({ free }) => free),
    names: pairs.map(({ name }) => name as string),
    isForced,
  });
  if (!divided.ok) return divided;
  const ends = runningSums(divided.layers);
  const shards = free.map((_, rank) => {
    const cfgRank = rank < half ? 0 : 1;
    const pipelineRank = cfgRank === 0 ? rank : worldSize - 1 - rank;
    const [start, end] = [ends[pipelineRank - 1] ?? 0, ends[pipelineRank] as number];
    return {
      type: "CfgShardMetadata" as const,
      ...slice(card, { rank, worldSize, start, end }),
      cfgRank,
      cfgWorldSize: 2 as const,
      pipelineRank,
      pipelineWorldSize: half,
    };
  });
  return { ok: true, shards };
}

function divideLayers(
  { nLayers }: ModelCard,
  { bytes, free, names, isForced }: Omit<Layout, "sharding" | "layers">,
): Apportionment {
  return divide({ nLayers, bytes, free, names, isForced });
}

function slice(
  modelCard: ModelCard,
  { rank, worldSize, start, end }: { rank: number; worldSize: number; start: number; end: number },
) {
  const { nLayers } = modelCard;
  return { modelCard, deviceRank: rank, worldSize, startLayer: start, endLayer: end, nLayers };
}

function runningSums(values: readonly number[]): number[] {
  let sum = 0;
  return values.map((value) => sum += value);
}
