/** What previews offer, a client may ask for: `CreateInstance` takes it. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { decide } from "../../core/master.ts";
import { previews } from "../../core/previews.ts";
import { GIB } from "../../core/units.ts";
import { commandId, instanceId, placementOf } from "../support/fixtures.ts";
import { bothWays, cable, clusterOf, metalCard, node, reach } from "../support/topology.ts";

const IDS = ["a", "b", "c", "d"];
const PAIRS = IDS.flatMap((_, a) => IDS.map((_, b): [number, number] => [a, b]))
  .filter(([a, b]) => a !== b);
const UNDIRECTED = PAIRS.filter(([a, b]) => a < b);

const anyCluster = fc.record({
  gib: fc.array(fc.integer({ min: 0, max: 8 }), { minLength: 4, maxLength: 4 }),
  both: fc.subarray(UNDIRECTED),
  oneWay: fc.subarray(PAIRS, { maxLength: 3 }),
  cables: fc.subarray(UNDIRECTED),
}).map(({ gib, both, oneWay, cables }) => {
  const nodes = IDS.map((id, at) => node(id, (gib[at] ?? 0) * GIB));
  const name = (at: number) => IDS[at] as string;
  return clusterOf(nodes, [
    ...bothWays(IDS, both),
    ...oneWay.map(([a, b]) => reach(name(a), name(b), `10.9.${a}.${b}`)),
    ...cables.flatMap(([a, b]) => [
      cable(name(a), name(b), `rdma_${b}`, `rdma_${a}`),
      cable(name(b), name(a), `rdma_${a}`, `rdma_${b}`),
    ]),
  ]);
});

const anyCard = fc.record({
  gib: fc.integer({ min: 1, max: 12 }),
  nLayers: fc.integer({ min: 2, max: 40 }),
  usesCfg: fc.boolean(),
}).map(({ gib, nLayers, usesCfg }) =>
  metalCard(gib * GIB, {
    nLayers,
    hiddenSize: 48,
    numKeyValueHeads: 12,
    supportsTensor: true,
    ...(usesCfg ? { usesCfg, tasks: ["TextToImage"] } : {}),
  })
);

Deno.test("CreateInstance takes whatever previews offer, on any cluster", () => {
  const taken = new Set<string>();
  fc.assert(
    fc.property(anyCluster, anyCard, ({ state, telemetry }, card) => {
      const request = placementOf({ modelId: card.modelId });
      const offered = previews(state, telemetry, { card, request, instanceId: instanceId("p") });
      for (const { instance } of offered.placements) {
        const command = { type: "CreateInstance" as const, commandId: commandId("c"), instance };
        const { events } = decide(state, command, { telemetry, now: 0, isHeard: () => true });
        assert.deepEqual(events, [{ type: "InstanceCreated", instance }]);
        const shards = Object.values(instance.shardAssignments.runnerToShard);
        taken.add(`${instance.type}, ${shards[0]?.type}, ${shards.length}`);
      }
    }),
    { seed: 1, numRuns: 200 },
  );
  for (
    const kind of [
      "MlxRingInstance, PipelineShardMetadata, 1",
      "MlxRingInstance, PipelineShardMetadata, 3",
      "MlxRingInstance, TensorShardMetadata, 2",
      "MlxRingInstance, CfgShardMetadata, 2",
      "MlxJacclInstance, PipelineShardMetadata, 2",
      "MlxJacclInstance, TensorShardMetadata, 3",
    ]
  ) assert.ok(taken.has(kind), `${kind} is not among: ${[...taken].join("; ")}`);
});
