/** How long a placement takes: `deno task bench:core`. */
import { InstanceId } from "../../core/ids.ts";
import { ModelCard } from "../../core/model_card.ts";
import { place } from "../../core/placement.ts";
import { PlacementRequest, Preference } from "../../core/placement_request.ts";
import { stateOfTopologyFile } from "../../core/topology_file.ts";
import { GIB } from "../../core/units.ts";

/** What clusters look like. */
export const SHAPES = ["mesh", "chain", "ring", "star of cliques", "sparse", "dense"] as const;

/** One of them. */
export type Shape = typeof SHAPES[number];

/** Numbers of nodes that are measured, each with the longest time that a placement may take. */
export const PLACEMENT_BARS: readonly (readonly [number, number])[] = [[64, 50], [256, 500]];

/** Nodes of one clique of a star. */
const CLIQUE = 8;

/** Links of a sparse graph for each node. */
const SPARSE = 3;

/** Links of a dense one that are left out: one in so many. */
const MISSING = 10;

/** A model that fits one node, one that needs several, and one that fits nowhere. */
const MODEL_BYTES: readonly ((nodeCount: number) => number)[] = [
  () => 20 * GIB,
  () => 400 * GIB,
  (nodeCount) => nodeCount * 64 * GIB,
];

/** Times that each is placed; the best counts, since the machine has other work. */
const ROUNDS = 3;

/** The longest of the best times, over all preferences, shardings and sizes of models. */
export function placementMs(shape: Shape, nodeCount: number): number {
  const { state, telemetry } = clusterOf(shape, nodeCount);
  const instanceId = InstanceId.parse("bench");
  const times = MODEL_BYTES.flatMap((bytes) =>
    Preference.options.flatMap((prefer) =>
      (["Pipeline", "Tensor"] as const).map((sharding) => {
        const card = cardOf(bytes(nodeCount));
        const request = PlacementRequest.parse({ modelId: card.modelId, prefer, sharding });
        return best(() => place(state, telemetry, { instanceId, card, request }));
      })
    )
  );
  return Math.max(...times);
}

function best(work: () => unknown): number {
  return Math.min(...Array.from({ length: ROUNDS }, () => {
    const from = performance.now();
    work();
    return performance.now() - from;
  }));
}

function cardOf(inBytes: number): ModelCard {
  return ModelCard.parse({
    modelId: "org/model",
    storageSize: { inBytes },
    nLayers: 80,
    hiddenSize: 8_192,
    numKeyValueHeads: 64,
    supportsTensor: true,
    tasks: ["TextGeneration"],
    backends: ["MlxMetal"],
  });
}

/** Nodes of 8 to 64 GiB, some of them measured. */
function clusterOf(shape: Shape, nodeCount: number) {
  const random = numbers();
  const id = (at: number) => `node-${String(at).padStart(4, "0")}`;
  const address = (at: number) => `10.0.${Math.floor(at / 250)}.${1 + at % 250}`;
  const nodes = Array.from({ length: nodeCount }, (_, at) => ({
    id: id(at),
    memoryAvailableBytes: Math.floor((8 + 56 * random()) * GIB),
    ...(at % 3 === 0 ? {} : { memoryBandwidthBytesPerSecond: 1e11 * (1 + at % 7) }),
  }));
  const links = pairs(shape, nodeCount, random).flatMap(([a, b]) => [
    { source: id(a), sink: id(b), kind: "socket", address: address(b) },
    { source: id(b), sink: id(a), kind: "socket", address: address(a) },
  ]);
  const read = stateOfTopologyFile({ nodes, links });
  if (!read.ok) throw new Error(read.error.message);
  return read;
}

type Pair = readonly [number, number];

function pairs(shape: Shape, count: number, random: () => number): Pair[] {
  const all = Array.from({ length: count }, (_, at) => at);
  const chain = all.slice(1).map((at): Pair => [at - 1, at]);
  const mesh = all.flatMap((a) => all.slice(a + 1).map((b): Pair => [a, b]));
  switch (shape) {
    case "mesh":
      return mesh;
    case "chain":
      return chain;
    case "ring":
      return [...chain, [0, count - 1]];
    case "star of cliques": {
      const isOneClique = ([a, b]: Pair) => Math.floor(a / CLIQUE) === Math.floor(b / CLIQUE);
      return mesh.filter((pair) => isOneClique(pair) || pair[0] === 0 && pair[1] % CLIQUE === 0);
    }
    case "sparse": {
      const chance = 2 * (SPARSE - 1) / count;
      return mesh.filter(([a, b]) => b === a + 1 || random() < chance);
    }
    case "dense":
      return mesh.filter(() => random() >= 1 / MISSING);
  }
}

/** Numbers from 0 to 1 that are the same each time (Numerical Recipes' generator). */
function numbers(): () => number {
  let seed = 1;
  return () => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed / 2 ** 32;
  };
}
