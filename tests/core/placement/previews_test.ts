import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { PlacementRequest } from "../../../core/placement_request.ts";
import { type PreviewOptions, previews, SIZES_EXPLAINED_MAX } from "../../../core/previews.ts";
import { instanceId, placementOf } from "../../support/fixtures.ts";
import {
  bothWays,
  cable,
  type Cluster,
  clusterOf,
  meshOf,
  metalCard,
  node,
} from "../../support/topology.ts";

const card = metalCard(1_000, {
  nLayers: 10,
  supportsTensor: true,
  hiddenSize: 60,
  numKeyValueHeads: 4,
});

function previewsOn(
  { state, telemetry }: Cluster,
  { request, ...options }: Partial<Omit<PreviewOptions, "request">> & {
    request?: Partial<PlacementRequest>;
  } = {},
) {
  return previews(state, telemetry, {
    ...{ card, instanceId: instanceId("new"), ...options },
    request: placementOf(request),
  });
}

const short = ({ placements }: ReturnType<typeof previewsOn>) =>
  placements.map(({ sharding, instanceMeta, nodeIds }) =>
    `${sharding} ${instanceMeta} ${nodeIds.join("")}`
  );

Deno.test("previews are every sharding, transport and number of nodes, the best first", () => {
  const names = ["a", "b", "c"];
  const cluster = clusterOf(names.map((id) => node(id, 1_200)), [
    ...bothWays(names, [[0, 1], [0, 2], [1, 2]]),
    cable("a", "b", "rdma_en1"),
  ]);
  const found = previewsOn(cluster);
  deepEqual(
    short(found),
    [
      "Pipeline MlxRing a",
      "Tensor MlxJaccl ab",
      "Pipeline MlxJaccl ab",
      "Pipeline MlxRing ab",
      "Tensor MlxRing ab",
      "Pipeline MlxRing abc",
    ].toSorted((a, b) => short(found).indexOf(a) - short(found).indexOf(b)),
  );
  equal(found.placements[0]?.nodeIds.length, 1);
  const ids = found.placements.map(({ instance }) => instance.instanceId);
  equal(new Set(ids).size, ids.length, "each can be created beside the others");
  deepEqual(
    found.rejected.map(({ sharding, instanceMeta, nodeIds }) =>
      `${sharding} ${instanceMeta} ${nodeIds.join("")}`
    ),
    ["Tensor MlxRing abc", "Pipeline MlxJaccl abc", "Tensor MlxJaccl abc"],
  );
  match(found.rejected[0]?.reason ?? "", /num_key_value_heads=4/, "4 heads over 3 nodes");
  match(found.rejected[1]?.reason ?? "", /node c has RDMA switched off/);
});

Deno.test("a preview tells the real shards and what they take", () => {
  const cluster = meshOf([node("a", 700), node("b", 500)]);
  const [first] = previewsOn(cluster, { shardings: ["Pipeline"], instanceMetas: ["MlxRing"] })
    .placements;
  deepEqual(first?.shards, [
    { nodeId: "a", startLayer: 0, endLayer: 6, deviceRank: 0 },
    { nodeId: "b", startLayer: 6, endLayer: 10, deviceRank: 1 },
  ]);
  deepEqual([...first?.memoryBytesByNode ?? []], [["a", 600], ["b", 400]]);
  deepEqual(first?.asked, { sharding: "Pipeline", instanceMeta: "MlxRing" });
});

Deno.test("every rejected candidate has its reason", () => {
  const cluster = meshOf([node("a", 300), node("b", 200)]);
  const { placements, rejected } = previewsOn(cluster, { instanceMetas: ["MlxRing"] });
  deepEqual(placements, []);
  deepEqual(rejected.map(({ nodeIds, sharding }) => `${sharding} ${nodeIds.join("")}`), [
    "Pipeline a",
    "Pipeline b",
    "Pipeline ab",
    "Tensor ab",
  ]);
  match(rejected[0]?.reason ?? "", /node a has 300 B free, 1000 B needed/);
  match(rejected[2]?.reason ?? "", /1000 B needed, the best choice of nodes \(a, b\) has 500 B/);
});

Deno.test("what no nodes could mend is rejected once, for none of them", () => {
  const cluster = meshOf([node("a", 3_000)]);
  const plain = { ...card, supportsTensor: false };
  const { placements, rejected } = previewsOn(cluster, { card: plain, instanceMetas: ["MlxRing"] });
  equal(placements.length, 1);
  deepEqual(rejected.map(({ sharding, nodeIds }) => [sharding, nodeIds]), [["Tensor", []]]);
  const [unknown] = previewsOn(cluster, { request: { nodeIds: ["z"] as never } }).rejected;
  match(unknown?.reason ?? "", /on node z: it is not known/);
});

Deno.test("fewer nodes than were asked for are the reason", () => {
  const { placements, rejected } = previewsOn(meshOf([node("a", 3_000)]), {
    request: { minNodes: 2 },
  });
  deepEqual(placements, []);
  equal(rejected.length, 4, "for each sharding and transport");
  match(rejected[0]?.reason ?? "", /^2 nodes needed, 1 found$/);
  const excluded = { excludedNodeIds: ["a"] as never };
  const [none] = previewsOn(meshOf([node("a", 3_000)]), { request: excluded }).rejected;
  equal(none?.reason, "all nodes are excluded");
});

Deno.test("more nodes than layers are rejected once, for what they are", () => {
  const only = { shardings: ["Pipeline"], instanceMetas: ["MlxRing"] } as const;
  const cluster = meshOf(Array.from({ length: 13 }, (_, at) => node(`n${at}`, 3_000)));
  const { placements, rejected } = previewsOn(cluster, only);
  equal(placements.length, 10);
  deepEqual(rejected.map(({ nodeIds }) => nodeIds), [[]]);
  match(rejected[0]?.reason ?? "", /on 11 nodes: .*10 layers/);
});

Deno.test("what does not connect is told for the number of nodes that was looked for", () => {
  const cluster = clusterOf([node("a", 3_000), node("b", 3_000)], []);
  const only = { shardings: ["Pipeline"], instanceMetas: ["MlxRing"] } as const;
  const { rejected } = previewsOn(cluster, only);
  deepEqual(rejected.map(({ reason }) => reason), ["no 2 nodes reach each other around a ring"]);
});

Deno.test("previews keep to the request: nodes, fewest nodes, force", () => {
  const cluster = meshOf(["a", "b", "c"].map((id) => node(id, 600)));
  const only = { shardings: ["Pipeline"], instanceMetas: ["MlxRing"] } as const;
  const pinned = { nodeIds: ["c"] as never, minNodes: 2 };
  deepEqual(short(previewsOn(cluster, { ...only, request: pinned })), [
    "Pipeline MlxRing ac",
    "Pipeline MlxRing abc",
  ]);
  const forced = previewsOn(cluster, { ...only, request: { force: true } });
  deepEqual(short(forced)[0], "Pipeline MlxRing a");
  equal(forced.placements[0]?.shortages.length, 1);
  deepEqual(short(previewsOn(cluster, { ...only, request: { prefer: "widest" } }))[0]?.length, 20);
});

Deno.test("in large clusters the smallest sizes are explained", () => {
  const cluster = meshOf(Array.from({ length: 20 }, (_, at) => node(`n${at}`, 1)));
  const { rejected } = previewsOn(cluster, { shardings: ["Pipeline"], instanceMetas: ["MlxRing"] });
  // Each alone, then 2 to 8 of them, and once that 10 layers are too few for 11.
  equal(rejected.length, 20 + (SIZES_EXPLAINED_MAX - 1) + 1);
  ok(rejected.every(({ reason }) => reason.length > 0));
});
