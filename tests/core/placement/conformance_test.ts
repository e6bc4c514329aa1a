import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { DownloadStatus } from "../../../core/download.ts";
import type { NodeId } from "../../../core/ids.ts";
import type { Host, Instance } from "../../../core/instance.ts";
import { NO_TELEMETRY } from "../../../core/telemetry.ts";
import { coordinatorIps, networkOf } from "../../../core/addresses.ts";
import { KIB } from "../../../core/units.ts";
import { MODEL } from "../../support/fixtures.ts";
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
  placeOn,
  reach,
  refusedOn,
} from "../../support/topology.ts";

type Ring = Extract<Instance, { type: "MlxRingInstance" }>;
type Jaccl = Extract<Instance, { type: "MlxJacclInstance" }>;

function ring(instance: Instance): Ring {
  ok(instance.type === "MlxRingInstance");
  return instance;
}

function jaccl(instance: Instance): Jaccl {
  ok(instance.type === "MlxJacclInstance");
  return instance;
}

function hosts(instance: Instance, nodeId: string): Host[] {
  return ring(instance).hostsByNode[nodeId as NodeId] ?? [];
}

/** A cluster whose nodes have come so far with the model. */
function withDownloads(
  cluster: Cluster,
  statuses: Readonly<Record<string, { status: DownloadStatus; percent?: number }>>,
): Cluster {
  const entries = Object.entries(statuses) as [NodeId, typeof statuses[string]][];
  const downloads = new Map(
    entries.map(([id, { status }]) => [id, new Map([[MODEL, status]])] as const),
  );
  const bytes = new Map(
    entries.flatMap(([id, { percent }]) =>
      percent === undefined
        ? []
        : [[id, new Map([[MODEL, { downloadedBytes: percent, totalBytes: 100 }]])] as const]
    ),
  );
  return {
    state: { ...cluster.state, downloads },
    telemetry: { ...cluster.telemetry, downloads: bytes },
  };
}

Deno.test("P1: a mesh of three takes layers by memory", () => {
  const cases = [
    { ram: [500, 500, 1_000], layers: [3, 3, 6] },
    { ram: [500, 500, 500], layers: [4, 4, 4] },
    { ram: [312, 468, 1_092], layers: [2, 3, 7] },
  ];
  for (const { ram, layers } of cases) {
    const cluster = meshOf(ram.map((bytes, at) => node(`${at}`, bytes)));
    const bytes = ram.reduce((sum, one) => sum + one, 0);
    const placed = placedOn(cluster, metalCard(bytes, { nLayers: 12 }));
    deepEqual(layersOf(placed), layers);
    deepEqual([...placed.memoryBytesByNode.values()].map((one, at) => one <= (ram[at] ?? 0)), [
      true,
      true,
      true,
    ]);
  }
});

Deno.test("P2: a model that a node just holds goes there whole", () => {
  for (const free of [1_000, 1_001]) {
    const placed = placedOn(clusterOf([node("a", free * KIB)]), metalCard(1_000 * KIB));
    deepEqual(placed.nodeIds, ["a"]);
    deepEqual(layersOf(placed), [16]);
  }
});

Deno.test("P3: a model that is too large for the only node is refused (E1)", () => {
  const { reason } = refusedOn(clusterOf([node("a", 1_000 * KIB)]), metalCard(1_001 * KIB));
  match(reason, /: node a has 1000\.0 KiB free, 1001\.0 KiB needed$/);
});

Deno.test("P4: a chain uses its ends", () => {
  const ids = ["a", "b", "c", "d"];
  const ram = [500, 600, 600, 500];
  const nodes = ids.map((id, at) => node(id, ram[at] ?? 0));
  const placed = placedOn(clusterOf(nodes, bothWays(ids, chainPairs(4))), metalCard(1_000));
  deepEqual(placed.nodeIds, ["a", "b"]);
});

/** A⇄B, A→C and C→B: one ring of three, in one direction. */
function oneWayTriangle(ram: readonly number[]): Cluster {
  return clusterOf(["a", "b", "c"].map((id, at) => node(id, ram[at] ?? 0)), [
    reach("a", "b", "10.0.0.2"),
    reach("b", "a", "10.0.0.1"),
    reach("a", "c", "10.0.0.3"),
    reach("c", "b", "10.0.0.2"),
  ]);
}

Deno.test("P5: only the ring of all three has the memory, in the one direction that there is", () => {
  const placed = placedOn(
    oneWayTriangle([500, 500, 1_000].map((kib) => kib * KIB)),
    metalCard(1_500 * KIB),
  );
  deepEqual(placed.nodeIds, ["a", "c", "b"]);
  deepEqual(hosts(placed.instance, "c").map(({ ip }) => ip), [
    "198.51.100.1",
    "10.0.0.3",
    "10.0.0.2",
  ]);
});

Deno.test("P6: without single nodes the smallest ring is {a, b}, the widest {a, b, c}", () => {
  const cluster = oneWayTriangle([1_000, 1_000, 1_000]);
  deepEqual(placedOn(cluster, metalCard(500), { minNodes: 2 }).nodeIds, ["a", "b"]);
  deepEqual(placedOn(cluster, metalCard(500), { prefer: "widest" }).nodeIds, ["a", "c", "b"]);
});

Deno.test("P7: two nodes that together lack a kilobyte are refused (E1)", () => {
  const cluster = meshOf([node("a", 1_000 * KIB), node("b", 1_000 * KIB)]);
  const { reason } = refusedOn(cluster, metalCard(2_001 * KIB));
  match(reason, /2\.0 MiB needed, the best choice of nodes \(a, b\) has 2\.0 MiB free/);
});

const OFF = { rdmaCtlEnabled: false };

/** P8: three nodes with cables en3, en4 and en5 around, and sockets. */
function cabled(
  { backends, without, silent }: {
    backends?: ("MlxCuda" | "MlxMetal")[];
    without?: string;
    silent?: string;
  } = {},
): Cluster {
  const ids = ["a", "b", "c"];
  const fields = backends ? { backends } : {};
  const { state, telemetry } = clusterOf(ids.map((id) => node(id, 500, fields)), [
    ...bothWays(ids, [[0, 1], [1, 2], [0, 2]]),
    cable("a", "b", "rdma_en3"),
    cable("b", "c", "rdma_en4"),
    cable("a", "c", "rdma_en5"),
  ]);
  const nodes = [...state.nodes].map(([id, one]) => {
    const { rdmaCtlEnabled: _, ...rest } = one;
    return [id, id === silent ? rest : { ...one, ...(id === without ? OFF : {}) }] as const;
  });
  return { state: { ...state, nodes: new Map(nodes) }, telemetry };
}

const TENSOR = { nLayers: 12, hiddenSize: 30, supportsTensor: true };
const RDMA = { sharding: "Tensor", instanceMeta: "MlxJaccl" } as const;

Deno.test("P8, changed by the ruling on coordinators: RDMA all around", () => {
  const placed = placedOn(cabled(), metalCard(1_500, TENSOR), RDMA);
  const { jacclDevices, jacclCoordinators } = jaccl(placed.instance);
  deepEqual(jacclDevices, [
    [null, "rdma_en3", "rdma_en5"],
    ["rdma_en3", null, "rdma_en4"],
    ["rdma_en5", "rdma_en4", null],
  ]);
  const [own, ...others] = ["a", "b", "c"].map((id) => jacclCoordinators[id as NodeId]);
  match(own ?? "", /^10\.0\.0\.1:\d+$/, "not 0.0.0.0: it binds the address that all reach");
  deepEqual(others, [own, own]);
  deepEqual(layersOf(placed), [12, 12, 12]);
});

Deno.test("P9: RDMA switched off on one node, or not told of, is refused (E8)", () => {
  const { reason } = refusedOn(cabled({ without: "c" }), metalCard(1_500, TENSOR), RDMA);
  match(reason, /MlxJaccl: node c has RDMA switched off, on needed/);
  const silent = refusedOn(cabled({ silent: "c" }), metalCard(1_500, TENSOR), RDMA);
  match(silent.reason, /MlxJaccl: node c has RDMA switched off, on needed/, "or nobody has said");
});

Deno.test("E10: RDMA needs a cable between each two nodes, not around alone", () => {
  const ids = ["a", "b", "c", "d"];
  const around = clusterOf(ids.map((id) => node(id, 500)), [
    ...bothWays(ids, [[0, 1], [1, 2], [2, 3], [3, 0], [0, 2], [1, 3]]),
    ...ids.map((id, at) => cable(id, ids[(at + 1) % 4] ?? "", `rdma_en${at}`)),
  ]);
  const card = metalCard(2_000, { ...TENSOR, hiddenSize: 32 });
  match(
    refusedOn(around, card, RDMA).reason,
    /needs an RDMA cable between all nodes, none between a and c; b and d/,
  );
});

Deno.test("P10: RDMA without Metal is refused (E7)", () => {
  const card = metalCard(1_500, { ...TENSOR, backends: ["MlxMetal", "MlxCuda"] });
  const { reason } = refusedOn(cabled({ backends: ["MlxCuda"] }), card, RDMA);
  match(reason, /node a has backends MlxCuda, one of MlxMetal needed/);
});

Deno.test("P11: a model for vLLM alone forms no ring (E6)", () => {
  const placed = refusedOn(meshOf([node("a", 100)]), metalCard(10, { backends: ["Vllm"] }));
  match(placed.reason, /with MlxRing: it runs on Vllm, MlxMetal, MlxCuda or MlxCpu needed/);
  equal(placed.code, "unsupported_parameter");
});

Deno.test("P12: one of three needed nodes has the wrong backend (E7)", () => {
  const cluster = meshOf([
    node("a", 500),
    node("b", 500),
    node("c", 500, { backends: ["MlxCuda"] }),
  ]);
  match(
    refusedOn(cluster, metalCard(1_500, { nLayers: 12 })).reason,
    /node c has backends MlxCuda, .* MlxMetal/,
  );
});

const COMPLETED: DownloadStatus = { type: "DownloadCompleted", totalBytes: 1, readOnly: false };
const ONGOING: DownloadStatus = { type: "DownloadOngoing" };
const pair = clusterOf([node("a", 1_000), node("b", 1_000)]);

Deno.test("P13: of two nodes the one that has the model", () => {
  const cluster = withDownloads(pair, { b: { status: COMPLETED } });
  deepEqual(placedOn(cluster, metalCard(500)).nodeIds, ["b"]);
});

Deno.test("P14: of two nodes the one that has more of the model", () => {
  const cluster = withDownloads(pair, {
    a: { status: ONGOING, percent: 30 },
    b: { status: ONGOING, percent: 80 },
  });
  deepEqual(placedOn(cluster, metalCard(500)).nodeIds, ["b"]);
  const pending = withDownloads(pair, {
    a: { status: { type: "DownloadPending" } },
    b: { status: { type: "DownloadPending" }, percent: 1 },
  });
  deepEqual(placedOn(pending, metalCard(500)).nodeIds, ["b"]);
});

Deno.test("P15: a failed download counts for nothing", () => {
  const cluster = withDownloads(clusterOf([node("a", 1_001), node("b", 1_000)]), {
    b: { status: { type: "DownloadFailed", errorMessage: "disk full" }, percent: 90 },
  });
  deepEqual(placedOn(cluster, metalCard(500)).nodeIds, ["a"]);
});

Deno.test("P16: where each reaches the coordinator at another address, it binds all of its own", () => {
  const { state } = clusterOf(["a", "b", "c"].map((id) => node(id, 1)), [
    reach("a", "b", "169.254.0.1"),
    reach("b", "a", "169.254.0.2"),
    reach("b", "c", "169.254.0.3"),
    reach("c", "b", "169.254.0.4"),
    reach("c", "a", "169.254.0.5"),
    reach("a", "c", "169.254.0.6"),
  ]);
  const ids = [...state.nodes.keys()];
  deepEqual(coordinatorIps(networkOf(state, NO_TELEMETRY), ids), [
    "0.0.0.0",
    "169.254.0.2",
    "169.254.0.5",
  ]);
});

/** P17: two nodes, linked by ethernet and by thunderbolt, perhaps also by RDMA. */
function twoLinks(
  [a, b]: readonly [number, number],
  { rdma = false, sockets = true } = {},
): Cluster {
  const ethernet = { sourceIface: "eth0", sinkIface: "eth0" };
  const thunderbolt = { sourceIface: "thunderbolt0", sinkIface: "thunderbolt0" };
  return clusterOf([node("a", a), node("b", b)], [
    ...(sockets
      ? [
        reach("a", "b", "10.0.0.2", thunderbolt),
        reach("b", "a", "10.0.0.1", thunderbolt),
        reach("a", "b", "192.168.1.2", ethernet),
        reach("b", "a", "192.168.1.1", ethernet),
      ]
      : []),
    ...(rdma ? [cable("a", "b", "rdma_en5", "rdma_en4")] : []),
  ]);
}

const tenLayers = { nLayers: 10, hiddenSize: 1_024, supportsTensor: true };

Deno.test("P17: a ring over thunderbolt, layers by memory", () => {
  const placed = placedOn(twoLinks([700, 500]), metalCard(1_000, tenLayers));
  deepEqual(layersOf(placed), [6, 4]);
  for (const id of ["a", "b"]) {
    deepEqual(hosts(placed.instance, id).map(({ ip }) => ip), ["10.0.0.1", "10.0.0.2"]);
  }
});

Deno.test("P18: RDMA over its cable, the coordinator over ethernet", () => {
  const cluster = twoLinks([700, 500], { rdma: true });
  const { instance } = placedOn(cluster, metalCard(1_000, tenLayers), RDMA);
  const { jacclDevices, jacclCoordinators } = jaccl(instance);
  deepEqual(jacclDevices, [[null, "rdma_en5"], ["rdma_en4", null]]);
  match(jacclCoordinators["b" as NodeId] ?? "", /^192\.168\.1\.1:/);
  const frames = jaccl(instance).hostsByNode["b" as NodeId]?.map(({ ip }) => ip);
  deepEqual(frames, ["10.0.0.1", "10.0.0.2"], "and frames round the best ring");
});

Deno.test("P19: a single node is a ring with a pipeline, and that is said", () => {
  const cluster = twoLinks([1_700, 500], { rdma: true });
  const placed = placedOn(cluster, metalCard(1_000, tenLayers), RDMA);
  deepEqual([placed.nodeIds, placed.sharding, placed.instanceMeta, placed.isCoerced], [
    ["a"],
    "Pipeline",
    "MlxRing",
    true,
  ]);
  equal(placed.instance.type, "MlxRingInstance");
  const { reason } = refusedOn(twoLinks([1_700, 500]), metalCard(1_000, tenLayers), RDMA);
  match(reason, /node a has RDMA switched off/, "E8");
});

Deno.test("P20: without sockets there is neither a ring (E11) nor a coordinator (E12)", () => {
  const cluster = twoLinks([700, 500], { rdma: true, sockets: false });
  const card = metalCard(1_000, tenLayers);
  match(refusedOn(cluster, card).reason, /a ring needs an IP address of each neighbour, .* a to b/);
  match(
    refusedOn(cluster, card, RDMA).reason,
    /MlxJaccl needs .* each neighbour, .* b to a$/,
    "E11",
  );
  const ids = ["a", "b", "c"];
  const cables = [["a", "b"], ["b", "c"], ["a", "c"]].map(([from = "", to = ""], at) =>
    cable(from, to, `rdma_en${at}`)
  );
  const oneWay = [
    reach("a", "b", "10.0.0.2"),
    reach("b", "c", "10.0.0.3"),
    reach("c", "a", "10.0.0.1"),
  ];
  const turning = clusterOf(ids.map((id) => node(id, 700)), [...cables, ...oneWay]);
  const { reason } = refusedOn(turning, metalCard(1_500, TENSOR), RDMA);
  match(reason, /MlxJaccl needs an IP address at which all nodes reach one of them/, "E12");
});

Deno.test("P21: shardings that a model does not support are refused by name", () => {
  const cluster = twoLinks([700, 500]);
  const refusal = (fields: Parameters<typeof metalCard>[1], request = {}) =>
    refusedOn(cluster, metalCard(1_000, { ...tenLayers, ...fields }), request).reason;
  const tensor = { sharding: "Tensor" } as const;
  match(refusal({ hiddenSize: 1_023 }, tensor), /no tensor sharding for hidden_size=1023/, "E3");
  match(refusal({ numKeyValueHeads: 3 }, tensor), /num_key_value_heads=3/, "E3");
  match(refusal({ supportsTensor: false }, tensor), /the model does not support it/, "E2");
  match(refusal({ baseModel: "Gemma 4 27B" }), /Gemma 4 supports no pipeline/, "E5");
  const gemma = metalCard(600, { ...tenLayers, baseModel: "Gemma 4 27B" });
  deepEqual(placedOn(cluster, gemma).nodeIds, ["a"]);
  const deepSeek = { modelId: "mlx-community/DeepSeek-V3.1-8bit" };
  match(refusal(deepSeek), /DeepSeek V3\.1 \(8-bit\) does not support it/, "E4");
  match(refusedOn(cluster, metalCard(1, deepSeek)).reason, /DeepSeek V3\.1/, "E4, one node");
});

Deno.test("DeepSeek V4 shares heads: tensor sharding needs the hidden size alone to divide", () => {
  const fields = { ...tenLayers, baseModel: "DeepSeek V4", numKeyValueHeads: 1 };
  const request = { sharding: "Tensor" } as const;
  const placed = placedOn(twoLinks([700, 500]), metalCard(1_000, fields), request);
  deepEqual(placed.nodeIds, ["a", "b"]);
});

Deno.test("P22: given nodes are contained, and too many are refused", () => {
  const cluster = twoLinks([1_700, 1_500]);
  const card = metalCard(1_000, tenLayers);
  const ids = (...nodeIds: string[]) => ({ nodeIds: nodeIds as NodeId[] });
  deepEqual(placedOn(cluster, card, ids("b")).nodeIds, ["b"]);
  const both = placedOn(cluster, card, ids("a", "b"));
  deepEqual([both.nodeIds, layersOf(both)], [["a", "b"], [5, 5]]);
  const missing = placeOn(cluster, card, ids("a", "z"));
  ok(!missing.ok && missing.code === "placement_failed");
  match(missing.reason, /on node z: it is not known/);
  match(refusedOn(cluster, card, { minNodes: 3 }).reason, /3 nodes needed, 2 found/);
});

Deno.test("P23, changed by the ruling on hops: each binds its own address, never 0.0.0.0", () => {
  const ids = ["a", "b", "c", "d"];
  const placed = placedOn(
    meshOf(ids.map((id) => node(id, 300))),
    metalCard(1_000, { nLayers: 10 }),
  );
  deepEqual(layersOf(placed), [3, 3, 2, 2]);
  const port = ring(placed.instance).ephemeralPort ?? 0;
  const own = [1, 2, 3, 4].map((at) => ({ ip: `10.0.0.${at}`, port }));
  ids.forEach((id, rank) => {
    const opposite = (rank + 2) % 4;
    const seen = own.map((host, at) => at === opposite ? { ip: "198.51.100.1", port: 0 } : host);
    deepEqual(hosts(placed.instance, id), seen);
  });
});

Deno.test("P24: a one-way link makes no ring, and the refusal says which way is missing (E1)", () => {
  const cluster = clusterOf([node("a", 600), node("b", 600)], [reach("a", "b", "10.0.0.2")]);
  const { reason, hint } = refusedOn(cluster, metalCard(1_000));
  match(reason, /1000 B needed, .*: a reaches b, b does not reach a$/);
  match(hint, /firewall/);
  match(
    refusedOn(cluster, metalCard(10), { minNodes: 2 }).reason,
    /no 2 nodes reach each other .*: a reaches b/,
  );
});
