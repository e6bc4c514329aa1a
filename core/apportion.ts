import { formatBytes } from "./units.ts";

/** Whole layers for each rank, or why there is no such division. */
export type Apportionment =
  | { readonly ok: true; readonly layers: readonly number[] }
  | { readonly ok: false; readonly reason: string };

/**
 * Divides layers by weight with largest remainders, at least one for each (spec §3.3). Weights
 * that are all 0 count as equal.
 */
export function apportion(nLayers: number, weights: readonly number[]): Apportionment {
  const count = weights.length;
  if (count === 0) return { ok: false, reason: "found no nodes to divide layers over, one needed" };
  if (nLayers < count) {
    const reason = `cannot distribute ${nLayers} layers across ${count} nodes, ` +
      "at least 1 layer for each needed";
    return { ok: false, reason };
  }
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const raw = weights.map((weight) => nLayers * (total > 0 ? weight / total : 1 / count));
  const layers = raw.map(Math.floor);
  const byFraction = raw.map((share, rank) => ({ rank, fraction: share - Math.floor(share) }))
    .sort((a, b) => b.fraction - a.fraction || a.rank - b.rank);
  const left = nLayers - layers.reduce((sum, share) => sum + share, 0);
  for (const { rank } of byFraction.slice(0, left)) layers[rank] = (layers[rank] as number) + 1;
  for (const rank of layers.keys()) if (layers[rank] === 0) move(layers, largest(layers), rank);
  return { ok: true, layers };
}

/** What a pipeline is divided by. */
export interface Division {
  readonly nLayers: number;
  /** Of all layers together, weights and KV. */
  readonly bytes: number;
  /** Free bytes of each rank's node; layers go by them. */
  readonly free: readonly number[];
  /** What messages call the ranks' nodes. */
  readonly names: readonly string[];
  /** Whether to divide although the memory does not suffice. */
  readonly isForced?: boolean | undefined;
}

/**
 * Divides layers by free memory; what rounding puts beyond a node's memory moves to the node with
 * the most room. So a division is found whenever there is one.
 */
export function divide({ nLayers, bytes, free, names, isForced }: Division): Apportionment {
  const divided = apportion(nLayers, free);
  if (!divided.ok) return divided;
  const room = free.map((one) => layersThatFit(one, { nLayers, bytes }));
  const layers = [...divided.layers];
  const spare = () => room.map((most, rank) => most - (layers[rank] as number));
  for (const rank of layers.keys()) {
    while ((spare()[rank] as number) < 0 && (layers[rank] as number) > 1) {
      const to = largest(spare());
      if ((spare()[to] as number) <= 0) break;
      move(layers, rank, to);
    }
  }
  const rank = spare().findIndex((left) => left < 0);
  if (rank < 0 || isForced) return { ok: true, layers };
  const count = divided.layers[rank] as number;
  const needed = formatBytes(bytesOfLayers(count, { nLayers, bytes }));
  const plural = count === 1 ? "" : "s";
  const reason = `node ${names[rank]} has insufficient memory: ${needed} needed for ${count} ` +
    `layer${plural}, has ${formatBytes(free[rank] as number)} free`;
  return { ok: false, reason };
}

/** Bytes of some layers of a model. */
export function bytesOfLayers(
  layers: number,
  { nLayers, bytes }: Pick<Division, "nLayers" | "bytes">,
): number {
  return Math.floor(bytes * layers / nLayers);
}

/** The most layers of a model that some free bytes hold. */
export function layersThatFit(
  free: number,
  whole: Pick<Division, "nLayers" | "bytes">,
): number {
  let layers = Math.min(whole.nLayers, Math.floor((free + 1) * whole.nLayers / whole.bytes) || 0);
  while (layers > 0 && bytesOfLayers(layers, whole) > free) layers -= 1;
  return layers;
}

function largest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

function move(layers: number[], from: number, to: number): void {
  layers[from] = (layers[from] as number) - 1;
  layers[to] = (layers[to] as number) + 1;
}
