import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { NodeId } from "../../../core/ids.ts";
import { MetaInstanceId } from "../../../core/ids.ts";
import { bytesByNode, freeBytes, freeBytesWithout } from "../../../core/memory_fit.ts";
import { misfit, place, placementHint } from "../../../core/placement.ts";
import type { PlacementRequest } from "../../../core/placement_request.ts";
import { NO_TELEMETRY } from "../../../core/telemetry.ts";
import { GIB } from "../../../core/units.ts";
import { fold, instanceId, nodeStarted, placementOf } from "../../support/fixtures.ts";
import {
  bothWays,
  cable,
  chainPairs,
  type Cluster,
  clusterOf,
  layersOf,
  meshOf,
  metalCard,
  node,
  placedOn,
  reach,
  refusedOn,
} from "../../support/topology.ts";

const ids = (...nodeIds: string[]) => nodeIds as NodeId[];
const record = (values: Record<string, number>) => values as Record<NodeId, number>;

const four = meshOf(["a", "b", "c", "d"].map((id) => node(id, 1_000)));
const card = metalCard(1_000, { nLayers: 10 });

Deno.test("exactly the given nodes, and no others", () => {
  const exact = { nodeIds: ids("d", "b"), exact: true };
  deepEqual(placedOn(four, card, exact).nodeIds, ["b", "d"]);
  deepEqual(placedOn(four, card, { nodeIds: ids("b"), minNodes: 3 }).nodeIds, ["a", "b", "c"]);
  deepEqual(placedOn(four, card, { nodeIds: ids("b", "b") }).nodeIds, ["b"]);
});

Deno.test("excluded nodes are never taken", () => {
  const excludedNodeIds = ids("a", "c");
  deepEqual(placedOn(four, card, { excludedNodeIds, minNodes: 2 }).nodeIds, ["b", "d"]);
  const { reason } = refusedOn(four, card, { excludedNodeIds, minNodes: 3 });
  match(reason, /3 nodes needed, 2 found/);
  match(
    refusedOn(four, card, { excludedNodeIds: ids("a", "b", "c", "d") }).reason,
    /all nodes are/,
  );
});

Deno.test("layers by hand go where they are meant to", () => {
  const placed = placedOn(four, card, { nodeLayers: record({ c: 7, a: 3 }) });
  deepEqual([placed.nodeIds, layersOf(placed)], [["a", "c"], [3, 7]]);
  deepEqual([...placed.memoryBytesByNode], [["a", 300], ["c", 700]]);
});

Deno.test("layers by hand that a node has no memory for are refused, or forced", () => {
  const pair = meshOf([node("a", 200), node("b", 2_000)]);
  const request = { nodeLayers: record({ a: 3, b: 7 }) };
  const { reason } = refusedOn(pair, card, request);
  match(reason, /node a has 200 B free, 300 B needed/);
  const forced = placedOn(pair, card, { ...request, force: true });
  deepEqual(forced.shortages, [{ nodeId: "a", neededBytes: 300, freeBytes: 200 }]);
});

Deno.test("no more is taken of a node than its limit", () => {
  const memoryLimits = record({ a: 100, b: 100, c: 300 });
  const placed = placedOn(four, card, { memoryLimits, minNodes: 4 });
  deepEqual(layersOf(placed), [1, 1, 2, 6]);
  deepEqual(placedOn(four, card, { memoryLimits }).nodeIds, ["d"]);
});

Deno.test("force places what does not fit where the least lacks, and says what lacks", () => {
  const cluster = meshOf([node("a", 300), node("b", 100), node("c", 50)]);
  const placed = placedOn(cluster, card, { force: true, minNodes: 2 });
  deepEqual(placed.nodeIds, ["a", "b", "c"]);
  const short = placed.shortages.map(({ nodeId }) => nodeId);
  deepEqual(short, ["a", "b", "c"]);
  deepEqual(placedOn(four, card, { force: true }).shortages, [], "not where it fits");
  const single = clusterOf([node("a", 1)]);
  deepEqual(placedOn(single, card, { force: true }).nodeIds, ["a"]);
  const apart = refusedOn(single, card, { force: true, minNodes: 2 });
  match(apart.reason, /2 nodes needed/, "nodes are not made by force");
});

Deno.test("force places on nodes that have not told their memory", () => {
  const { state } = clusterOf([node("a", 1)]);
  const unknown: Cluster = { state, telemetry: NO_TELEMETRY };
  const { shortages } = placedOn(unknown, card, { force: true });
  deepEqual(shortages, [{ nodeId: "a", neededBytes: 1_000, freeBytes: 0 }]);
});

Deno.test("contradictions are refused by name", () => {
  const cases: [Partial<PlacementRequest>, RegExp][] = [
    [{ exact: true }, /on exactly the given nodes: none given/],
    [{ nodeIds: ids("a"), excludedNodeIds: ids("a") }, /on node a: it is excluded as well/],
    [{ nodeIds: ids("a"), exact: true, minNodes: 2 }, /on 2 nodes: 1 given, and no others/],
    [{ nodeLayers: record({ a: 4, b: 5 }) }, /found 9 layers, 10 needed/],
    [{ nodeLayers: record({ a: 10 }), nodeIds: ids("b") }, /on node b: it has no layers among/],
    [{ nodeLayers: record({ a: 10 }), nodeIds: ids("a"), minNodes: 2 }, /1 given, and no others/],
    [{ nodeLayers: record({ a: 4, z: 6 }) }, /on node z: it is not known/],
    [{ minNodes: 11 }, /on 11 nodes: cannot distribute 10 layers/],
  ];
  for (const [request, reason] of cases) {
    const refused = refusedOn(four, card, request);
    match(refused.reason, reason);
    ok(refused.hint.length > 0);
  }
  const layers = { nodeLayers: record({ a: 4, b: 6 }) };
  const tensor = metalCard(10, { nLayers: 10, supportsTensor: true });
  match(refusedOn(four, tensor, { ...layers, sharding: "Tensor" }).reason, /found Tensor sharding/);
  const guided = metalCard(10, { nLayers: 10, usesCfg: true });
  match(refusedOn(four, guided, layers).reason, /found an image model with guidance/);
  const vllm = metalCard(10, { backends: ["Vllm"] });
  match(refusedOn(four, vllm).hint, /exo models list/);
  match(refusedOn(four, vllm, { instanceMeta: "MlxJaccl" }).hint, /--transport/);
});

Deno.test("an image model's halves mirror each other's memory", () => {
  const image = metalCard(600, { nLayers: 60, usesCfg: true });
  const ram = [310, 300, 300, 310];
  const cluster = meshOf(ram.map((bytes, at) => node(`${at}`, bytes)));
  const placed = placedOn(cluster, image, { minNodes: 4 });
  deepEqual([...placed.memoryBytesByNode.values()].sort(), [300, 300, 300, 300]);
  // In id order 400 would mirror 200: paired by room, 400 mirrors 400.
  const uneven = meshOf([400, 400, 200, 200].map((bytes, at) => node(`${at}`, bytes)));
  const paired = placedOn(uneven, image, { minNodes: 4 });
  deepEqual(layersOf(paired), [40, 20, 20, 40]);
  const { reason } = refusedOn(
    meshOf([400, 390, 200, 190].map((b, at) => node(`${at}`, b))),
    image,
    {
      minNodes: 4,
    },
  );
  match(reason, /node .* needed/);
});

Deno.test("an image model takes nodes that mirror each other before faster ones that do not", () => {
  const image = metalCard(600, { nLayers: 60, usesCfg: true });
  const fast = { memoryBandwidthBytesPerSecond: 800e9 };
  const ram = [600, 300, 200, 100];
  const cluster = meshOf([
    ...ram.map((bytes, at) => node(`fast-${at}`, bytes, fast)),
    ...[600, 600, 600].map((bytes, at) => node(`slow-${at}`, bytes)),
  ]);
  const { nodeIds } = placedOn(cluster, image, { minNodes: 4 });
  deepEqual(nodeIds.toSorted(), ["fast-0", "slow-0", "slow-1", "slow-2"]);
});

Deno.test("an image model on a ring takes the turn that mirrors", () => {
  const image = metalCard(600, { nLayers: 60, usesCfg: true });
  const names = ["a", "b", "c", "d"];
  const links = bothWays(names, [...chainPairs(4), [3, 0]]);
  const around = (ram: number[]) => clusterOf(names.map((id, at) => node(id, ram[at] ?? 0)), links);
  const placed = placedOn(around([400, 200, 200, 400]), image, { minNodes: 4 });
  deepEqual([placed.nodeIds, layersOf(placed)], [["a", "b", "c", "d"], [40, 20, 20, 40]]);
  const turned = placedOn(around([400, 400, 200, 200]), image, { minNodes: 4 });
  deepEqual([turned.nodeIds, layersOf(turned)], [["a", "d", "c", "b"], [40, 20, 20, 40]]);
  refusedOn(around([400, 200, 400, 200]), image, { minNodes: 4 });
});

Deno.test("tensor ranks need their share each, KV included (R)", () => {
  const tensor = { supportsTensor: true, hiddenSize: 64 };
  const pair = (a: number, b: number) => meshOf([node("a", a), node("b", b)]);
  const request = { sharding: "Tensor", minNodes: 2 } as const;
  const { reason } = refusedOn(pair(900, 110), metalCard(1_000, tensor), request);
  match(reason, /node b has 110 B free, 500 B needed/);
  const kv = { ...tensor, kvBytesPerToken: 1, contextLength: 100 };
  const placed = placedOn(pair(600, 550), metalCard(1_000, kv), request);
  deepEqual([...placed.memoryBytesByNode], [["a", 550], ["b", 550]]);
  equal(placed.contextTokens, 100);
  refusedOn(pair(600, 549), metalCard(1_000, kv), request);
});

Deno.test("a lone node of the wrong kind does not spoil what a pair can do (R)", () => {
  const cluster = clusterOf(
    [node("a", 2_000, { backends: ["MlxCuda"] }), node("b", 600), node("c", 600)],
    bothWays(["a", "b", "c"], [[0, 1], [1, 2], [0, 2]]),
  );
  deepEqual(placedOn(cluster, card).nodeIds, ["b", "c"]);
});

Deno.test("of equally many nodes the faster are taken, whatever memory they have", () => {
  const slow = { memoryBandwidthBytesPerSecond: 50e9 };
  const fast = { memoryBandwidthBytesPerSecond: 800e9 };
  const mixed = meshOf([node("a", 9_000, slow), node("b", 1_000, fast), node("c", 8_000, slow)]);
  deepEqual(placedOn(mixed, card).nodeIds, ["b"]);
  const kinds = meshOf([
    node("a", 9_000, { backends: ["MlxCpu"] }),
    node("b", 1_000, { backends: ["MlxMetal", "MlxCpu"] }),
  ]);
  const both = metalCard(1_000, { backends: ["MlxMetal", "MlxCpu"] });
  deepEqual(placedOn(kinds, both).nodeIds, ["b"], "by what devices of its class usually do");
});

Deno.test("latency spreads a model when a slow node alone would be slower", () => {
  const slow = { memoryBandwidthBytesPerSecond: 10e9 };
  const fast = { memoryBandwidthBytesPerSecond: 400e9 };
  const cluster = meshOf([
    node("a", 64 * GIB, slow),
    node("b", 16 * GIB, fast),
    node("c", 16 * GIB, fast),
  ]);
  const large = metalCard(20 * GIB, { nLayers: 40 });
  deepEqual(placedOn(cluster, large).nodeIds, ["a"], "smallest");
  deepEqual(placedOn(cluster, large, { prefer: "latency" }).nodeIds, ["b", "c"]);
  deepEqual(placedOn(cluster, large, { prefer: "widest" }).nodeIds, ["a", "b", "c"]);
  const small = metalCard(10 * GIB, { nLayers: 40 });
  deepEqual(placedOn(cluster, small, { prefer: "latency" }).nodeIds.length, 1, "hops cost");
  deepEqual(placedOn(cluster, small, { prefer: "throughput" }).nodeIds, ["a", "b", "c"]);
});

Deno.test("latency keeps off links that were measured slow", () => {
  const names = ["a", "b", "c"];
  const fields = (latencyMs: number) => ({ latencyMs });
  const cluster = clusterOf(names.map((id) => node(id, 600)), [
    reach("a", "b", "10.0.0.2", fields(80)),
    reach("b", "a", "10.0.0.1", fields(80)),
    reach("b", "c", "10.0.0.3", fields(1)),
    reach("c", "b", "10.0.0.2", fields(1)),
  ]);
  deepEqual(placedOn(cluster, card, { prefer: "latency" }).nodeIds, ["b", "c"]);
});

Deno.test("RDMA in part of a cluster is used where all are cabled", () => {
  const names = ["a", "b", "c", "d"];
  const tensor = metalCard(1_000, { supportsTensor: true, nLayers: 12, hiddenSize: 60 });
  const cluster = clusterOf(names.map((id) => node(id, 400)), [
    ...bothWays(names, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]),
    cable("a", "b", "rdma_en1"),
    cable("b", "c", "rdma_en2"),
    cable("b", "d", "rdma_en3"),
    cable("c", "d", "rdma_en4"),
  ]);
  const request = { sharding: "Tensor", instanceMeta: "MlxJaccl", minNodes: 3 } as const;
  deepEqual(placedOn(cluster, tensor, request).nodeIds, ["b", "c", "d"]);
  const missing = refusedOn(cluster, tensor, { ...request, minNodes: 4 });
  match(missing.reason, /an RDMA cable between all nodes, none between a and c; a and d/);
  const pipeline = { instanceMeta: "MlxJaccl", nodeIds: ids("d") } as const;
  deepEqual(placedOn(cluster, metalCard(1_100, { nLayers: 12 }), pipeline).nodeIds, [
    "b",
    "c",
    "d",
  ]);
});

Deno.test("nodes that nothing connects, and a ring that lacks a link, are explained", () => {
  const apart = clusterOf([node("a", 600), node("b", 600)]);
  const { reason, hint } = refusedOn(apart, card, { minNodes: 2 });
  match(reason, /no 2 nodes reach each other around a ring/);
  match(hint, /exo status/);
  const given = refusedOn(apart, card, { nodeIds: ids("a", "b") });
  match(given.reason, /no 2 nodes with the given ones reach each other/);
  const chain = clusterOf(
    ["a", "b", "c"].map((id) => node(id, 600)),
    bothWays(["a", "b", "c"], chainPairs(3)),
  );
  match(refusedOn(chain, card, { minNodes: 3 }).reason, /no 3 nodes reach each other/);
});

Deno.test("a given node that is too small, and one of no cluster, are named", () => {
  const { reason } = refusedOn(four, metalCard(1_100), { nodeIds: ids("c"), exact: true });
  match(reason, /: node c has 1000 B free, 1\.1 KiB needed$/);
  const empty = { state: fold([]), telemetry: four.telemetry };
  match(refusedOn(empty, card, { nodeIds: ids("a") }).hint, /^known nodes: none$/);
});

Deno.test("what a wish asks for is bound to it", () => {
  const metaInstanceId = MetaInstanceId.parse("wish");
  const { state, telemetry } = four;
  const asked = { instanceId: instanceId("i"), card, request: placementOf({ minNodes: 2 }) };
  const placed = place(state, telemetry, { ...asked, metaInstanceId });
  ok(placed.ok && placed.instance.metaInstanceId === "wish");
});

Deno.test("an instance with a runner that has no shard takes nothing", () => {
  const { state, telemetry } = four;
  const { instance } = placedOn(four, card);
  const { shardAssignments } = instance;
  const broken = { ...instance, shardAssignments: { ...shardAssignments, runnerToShard: {} } };
  deepEqual([...bytesByNode(broken)], []);
  const holding = { ...state, instances: new Map([[broken.instanceId, broken]]) };
  deepEqual([...freeBytes(holding, telemetry.memory).values()], [1_000, 1_000, 1_000, 1_000]);
  deepEqual([...freeBytesWithout(instance, state, new Map())], [], "nobody has reported");
  const held = { ...state, instances: new Map([[instance.instanceId, instance]]) };
  deepEqual([...freeBytes(held, new Map())], [], "nor of a node that something is promised of");
});

Deno.test("a node that computes with CUDA has what is free on its GPU, and no other has", () => {
  const { state, telemetry } = meshOf([
    node("a", 1_000, { backends: ["MlxCpu", "MlxCuda"] }),
    node("b", 1_000, { backends: ["MlxCpu"] }),
    node("c", 1_000, { backends: ["MlxCuda"] }),
  ]);
  const gpu = { totalBytes: 80, availableBytes: 70 };
  const measured = [...telemetry.memory].map(([nodeId, memory]) =>
    [nodeId, nodeId === "c" ? memory : { ...memory, gpu }] as const
  );
  const memory = new Map(measured);
  const free = () => Object.fromEntries(freeBytes(state, memory));
  deepEqual(free(), { a: 70, b: 1_000, c: 1_000 }, "c's shares the machine's");
  const { instance } = placedOn(four, card, { nodeIds: ids("a") });
  const nodeId = ids("a")[0] as NodeId;
  const loadedRunners = Object.values(instance.shardAssignments.nodeToRunner);
  const measuredA = { ramTotalBytes: 1_000, ramAvailableBytes: 1_000, gpu, loadedRunners };
  const loaded = new Map(memory).set(nodeId, measuredA);
  const freed = freeBytesWithout(instance, state, loaded);
  deepEqual(Object.fromEntries(freed), { a: 1_070, b: 1_000, c: 1_000 });
});

Deno.test("a long list of reasons is cut", () => {
  const many = clusterOf(["a", "b", "c", "d", "e", "f"].map((id) => node(id, 1)));
  match(refusedOn(many, card).reason, /; and 2 more$/);
  equal(refusedOn(many, card).rejected.length, 6, "but not the list of rejected candidates");
});

Deno.test("an explanation says when not everything was looked at", () => {
  const names = Array.from({ length: 64 }, (_, at) => `n${String(at).padStart(2, "0")}`);
  const pairs: [number, number][] = [];
  for (let at = 0; at < 64; at++) {
    if (at % 8 < 7) pairs.push([at, at + 1]);
    if (at < 56) pairs.push([at, at + 8]);
  }
  const grid = clusterOf(names.map((id) => node(id, 1_000)), bothWays(names, pairs));
  const refused = refusedOn(grid, metalCard(63_000, { nLayers: 63 }));
  match(refused.reason, /not all choices of nodes were looked at, there are too many$/);
  match(refused.hint, /--node/);
});

Deno.test("friendly names are used where they tell nodes apart", () => {
  const named = clusterOf([
    node("a", 1, { friendlyName: "Mini" }),
    node("b", 1, { friendlyName: "" }),
  ]);
  match(refusedOn(named, card).reason, /node Mini has .*; node b has/);
  const twins = clusterOf(["a", "b"].map((id) => node(id, 1, { friendlyName: "Mac" })));
  match(refusedOn(twins, card).reason, /node a has .*; node b has/);
});

Deno.test("an instance that somebody put together is checked rank by rank", () => {
  const { state, telemetry } = four;
  const [a] = ids("a");
  ok(a);
  const large = metalCard(1_500, { nLayers: 10 });
  match(misfit(state, telemetry, { nodeId: a, card: large }) ?? "", /node a has .* needed/);
  const shard = {
    ...{ type: "PipelineShardMetadata" as const, modelCard: card, deviceRank: 0, worldSize: 2 },
    ...{ startLayer: 0, endLayer: 5, nLayers: 10 },
  };
  equal(misfit(state, telemetry, { nodeId: a, card: large, shard }), undefined);
  const [z] = ids("z");
  ok(z);
  match(misfit(state, telemetry, { nodeId: z, card }) ?? "", /node z is not known/);
  const hint = (bytes: number) =>
    placementHint(state, telemetry, {
      card: metalCard(bytes, { nLayers: 10 }),
      nodeIds: ids("a", "b"),
    });
  match(hint(1_500), /let exo divide it/);
  match(hint(9_000), /choose a smaller model/);
});

Deno.test("a node that has just started is waited for", () => {
  const { telemetry } = clusterOf([node("a", 1)]);
  const [b] = ids("b");
  ok(b);
  const started = { state: fold([nodeStarted(b)]), telemetry };
  match(refusedOn(started, metalCard(1, { backends: ["MlxCpu"] })).hint, /ask again in a second/);
});
