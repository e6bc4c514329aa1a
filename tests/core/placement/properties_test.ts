import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { networkOf, ringHop } from "../../../core/addresses.ts";
import type { NodeId } from "../../../core/ids.ts";
import type { Instance } from "../../../core/instance.ts";
import { place } from "../../../core/placement.ts";
import type { State } from "../../../core/state.ts";
import { stateOfTopologyFile, TopologyFile } from "../../../core/topology_file.ts";
import { created, fold, instanceId, placementOf, reported } from "../../support/fixtures.ts";
import { type Cluster, ipOf, metalCard } from "../../support/topology.ts";

const NODES = ["a", "b", "c", "d", "e"];

const file = fc.record({
  ram: fc.array(fc.integer({ min: 0, max: 3_000 }), { minLength: 1, maxLength: NODES.length }),
  edges: fc.uniqueArray(fc.tuple(fc.nat(4), fc.nat(4)), { maxLength: 20, selector: String }),
  isMutual: fc.boolean(),
}).map(({ ram, edges, isMutual }) => {
  const all = isMutual ? edges.flatMap(([a, b]) => [[a, b], [b, a]] as const) : edges;
  const given = new Map(all.map((pair) => [pair.join(), pair] as const));
  const links = [...given.values()]
    .filter(([a = 0, b = 0]) => a !== b && a < ram.length && b < ram.length)
    .map(([a = 0, b = 0]) => (
      { source: NODES[a], sink: NODES[b], kind: "socket", address: ipOf(b) }
    ));
  const nodes = ram.map((memoryAvailableBytes, at) => ({ id: NODES[at], memoryAvailableBytes }));
  return TopologyFile.parse({ nodes, links });
});

const wish = fc.record({
  bytes: fc.integer({ min: 1, max: 4_000 }),
  kv: fc.nat(3),
  contextTokens: fc.integer({ min: 1, max: 200 }),
  nLayers: fc.integer({ min: 1, max: 12 }),
  sharding: fc.constantFrom("Pipeline" as const, "Tensor" as const),
  prefer: fc.constantFrom(
    "smallest" as const,
    "widest" as const,
    "latency" as const,
    "throughput" as const,
  ),
  usesCfg: fc.constantFrom(false, false, true),
  minNodes: fc.integer({ min: 1, max: 3 }),
});
type Wish = typeof wish extends fc.Arbitrary<infer T> ? T : never;

function read(file: TopologyFile): Cluster {
  const found = stateOfTopologyFile(file);
  ok(found.ok);
  return found;
}

function placeWish({ state, telemetry }: Cluster, wish: Wish, id = "i") {
  const { bytes, kv, contextTokens, nLayers, usesCfg, ...request } = wish;
  const card = metalCard(bytes, { kvBytesPerToken: kv, nLayers, usesCfg, supportsTensor: true });
  const asked = placementOf({ ...request, config: { contextTokens } });
  return place(state, telemetry, {
    instanceId: instanceId(id),
    card: { ...card, contextLength: 0 },
    request: asked,
  });
}

/** Whether each layer is on exactly one rank; for halves of guidance, on one of each. */
function checkLayers({ shardAssignments }: Instance, nLayers: number): void {
  const shards = Object.values(shardAssignments.runnerToShard);
  const times = shards[0]?.type === "PipelineShardMetadata"
    ? 1
    : shards[0]?.type === "CfgShardMetadata"
    ? 2
    : shards.length;
  for (let layer = 0; layer < nLayers; layer++) {
    const holders = shards.filter(({ startLayer, endLayer }) =>
      startLayer <= layer && layer < endLayer
    );
    equal(holders.length, times, `layer ${layer}`);
  }
}

Deno.test("what is placed covers all layers, within memory, over links that there are", () => {
  fc.assert(
    fc.property(file, wish, (file, wish) => {
      const cluster = read(file);
      const placed = placeWish(cluster, wish);
      if (!placed.ok) return;
      checkLayers(placed.instance, wish.nLayers);
      ok(placed.nodeIds.length >= wish.minNodes);
      for (const [nodeId, bytes] of placed.memoryBytesByNode) {
        const free = cluster.telemetry.memory.get(nodeId)?.ramAvailableBytes ?? 0;
        ok(bytes <= free, `${nodeId}: ${bytes} of ${free}`);
      }
      if (placed.nodeIds.length === 1) return;
      const network = networkOf(cluster.state, cluster.telemetry);
      placed.nodeIds.forEach((nodeId, rank) => {
        const next = placed.nodeIds[(rank + 1) % placed.nodeIds.length] as NodeId;
        ok(ringHop(network, nodeId, next), `${nodeId} to ${next}`);
      });
    }),
    { numRuns: 500 },
  );
});

Deno.test("the same cluster gives the same placement, in whatever order it came to be", () => {
  fc.assert(
    fc.property(file, wish, fc.boolean(), (file, wish, isReversed) => {
      const shuffled = isReversed
        ? { nodes: file.nodes.toReversed(), links: file.links.toReversed() }
        : file;
      deepEqual(placeWish(read(shuffled), wish), placeWish(read(file), wish));
    }),
    { numRuns: 300 },
  );
});

Deno.test("placements one after the other never book the same memory, loaded or not", () => {
  const wishes = fc.array(fc.tuple(wish, fc.boolean()), { maxLength: 6 });
  fc.assert(
    fc.property(file, wishes, (file, wishes) => {
      const { state: empty, telemetry } = read(file);
      const memory = new Map(telemetry.memory);
      let state: State = empty;
      const booked = new Map<NodeId, number>();
      wishes.forEach(([wish, isLoaded], at) => {
        const placed = placeWish({ state, telemetry: { ...telemetry, memory } }, wish, `i${at}`);
        if (!placed.ok) return;
        state = fold([created(placed.instance)], state);
        for (const [nodeId, bytes] of placed.memoryBytesByNode) {
          booked.set(nodeId, (booked.get(nodeId) ?? 0) + bytes);
          if (!isLoaded) continue;
          // Weights of a rank that is loaded are no longer free, and no longer promised.
          const rank = placed.nodeIds.indexOf(nodeId);
          const ratio = wish.bytes / (wish.bytes + wish.kv * wish.contextTokens);
          const before = memory.get(nodeId)?.ramAvailableBytes ?? 0;
          const ramAvailableBytes = Math.max(0, before - Math.ceil(bytes * ratio) - 1);
          memory.set(nodeId, { ramTotalBytes: 0, ramAvailableBytes });
          state = fold([reported(`i${at}:${rank}`, "RunnerReady")], state);
        }
      });
      for (const [nodeId, bytes] of booked) {
        const free = telemetry.memory.get(nodeId)?.ramAvailableBytes ?? 0;
        ok(bytes <= free, `${nodeId}: ${bytes} of ${free}`);
      }
    }),
    { numRuns: 300 },
  );
});
