import assert from "node:assert/strict";
import type { Event } from "../../core/events.ts";
import { type NodeId, NodeId as NodeIdSchema } from "../../core/ids.ts";
import type { Instance, Shard } from "../../core/instance.ts";
import { decide } from "../../core/master.ts";
import type { State } from "../../core/state.ts";
import { MIB } from "../../core/units.ts";
import {
  A,
  B,
  C,
  cardOf,
  commandId,
  created,
  decideContext,
  fold,
  instanceOf,
  memoryOf,
  nodeStarted,
  telemetryOf,
} from "../support/fixtures.ts";
import { ringOf, socket, withShards } from "../support/control_plane.ts";
import { rejects } from "../support/rejects.ts";

const NODES = [A, B, C];
const MEMORY = memoryOf(1024 * MIB, NODES);
const METAL: Event[] = NODES.map((nodeId) => ({
  type: "NodeGatheredInfo",
  nodeId,
  incarnation: 1,
  info: { type: "NodeBackends", backends: ["MlxMetal", "MlxCpu"] },
}));
const metal = cardOf({ backends: ["MlxMetal", "MlxCpu"] });
const nodes = [...NODES.map((nodeId) => nodeStarted(nodeId)), ...METAL];
const ways = [socket(A, B), socket(B, C), socket(A, C)];
const STATE = fold([...nodes, ...ways, { type: "CustomModelCardAdded", modelCard: metal }]);

function create(instance: Instance, state: State = STATE, memory = MEMORY): readonly Event[] {
  const command = { type: "CreateInstance" as const, commandId: commandId("c"), instance };
  return decide(state, command, decideContext(memory)).events;
}

/** The instance with the card that the cluster has. */
const known = (instance: Instance) =>
  created(withShards(instance, (shard) => ({ ...shard, modelCard: metal })));

const cable = (source: NodeId, sink: NodeId, iface = `rdma_${sink}`): Event => ({
  type: "TopologyEdgeCreated",
  connection: {
    source,
    sink,
    edge: { type: "RdmaConnection", sourceRdmaIface: iface, sinkRdmaIface: `rdma_${source}` },
  },
});
const cables = fold([cable(A, B), cable(B, A)], STATE);

/** All layers on each of two nodes, a part of each layer. */
function jacclOf(fields: Partial<Extract<Instance, { type: "MlxJacclInstance" }>> = {}): Instance {
  const tensor = withShards(instanceOf("i", [A, B]), (shard) => ({
    ...shard,
    type: "TensorShardMetadata",
  } as Shard));
  const { instanceId, shardAssignments } = tensor;
  return {
    type: "MlxJacclInstance",
    instanceId,
    shardAssignments,
    jacclDevices: [[null, `rdma_${B}`], [`rdma_${A}`, null]],
    jacclCoordinators: { [A]: "0.0.0.0:1", [B]: "10.0.0.1:1" },
    hostsByNode: ringOf("i", [A, B]).hostsByNode,
    ...fields,
  };
}

/** Two halves of an image model's guidance, each a pipeline of one. */
const halves = withShards(ringOf("i", [A, B]), (shard) => ({
  ...shard,
  type: "CfgShardMetadata" as const,
  startLayer: 0,
  endLayer: shard.nLayers,
  cfgRank: shard.deviceRank,
  cfgWorldSize: 2 as const,
  pipelineRank: 0,
  pipelineWorldSize: 1,
}));

const D = NodeIdSchema.parse("node-d");
const FOUR = [A, B, C, D];

/** Both halves as pipelines of two; the second half runs back through its nodes. */
const halvedPipelines = withShards(ringOf("i", FOUR), (shard) => {
  const [cfgRank, pipelineRank] = [[0, 0], [0, 1], [1, 1], [1, 0]][shard.deviceRank] ?? [];
  const startLayer = pipelineRank === 0 ? 0 : 8;
  const cfg = { cfgRank, cfgWorldSize: 2, pipelineRank, pipelineWorldSize: 2 };
  const type = "CfgShardMetadata";
  return { ...shard, type, startLayer, endLayer: startLayer + 8, ...cfg } as Shard;
});

Deno.test("CreateInstance takes halves that are pipelines, in whatever order of ranks", () => {
  const state = fold([nodeStarted(D), socket(C, D), socket(D, A)], STATE);
  const memory = memoryOf(1024 * MIB, FOUR);
  assert.deepEqual(create(halvedPipelines, state, memory), [known(halvedPipelines)]);
});

Deno.test("CreateInstance takes rings, tensor splits over RDMA, and halves of guidance", () => {
  const wholes: readonly [Instance, State][] = [
    [ringOf("i", [A]), STATE],
    [ringOf("i", [A, B]), STATE],
    [ringOf("i", NODES), STATE],
    [ringOf("i", [C, A, B]), STATE],
    [jacclOf(), cables],
    [halves, STATE],
  ];
  for (const [instance, state] of wholes) {
    assert.deepEqual(create(instance, state), [known(instance)]);
  }
});

Deno.test("CreateInstance of a model without a card in the cluster believes the instance", () => {
  const state = fold([...nodes, ...ways]);
  assert.deepEqual(create(ringOf("i", [A, B]), state), [created(ringOf("i", [A, B]))]);
});

const ring = ringOf("i", [A, B]);
const shard = (fields: Partial<Shard>, rank = 1, of: Instance = ring) =>
  withShards(of, (one) => (one.deviceRank === rank ? { ...one, ...fields } as Shard : one));
const hosts = ring.hostsByNode;
const { ephemeralPort: _, ...portless } = ring;
const assigned = (fields: Partial<Instance["shardAssignments"]>): Instance => ({
  ...ring,
  shardAssignments: { ...ring.shardAssignments, ...fields },
});

const WRONG: readonly [string, Instance, RegExp][] = [
  [
    "one runner on two nodes",
    assigned({ nodeToRunner: { [A]: "i:0", [B]: "i:0" } as never }),
    /runner i:0 has two nodes/,
  ],
  ["a rank that is there twice", shard({ deviceRank: 0 }), /found rank 0, 1 needed/],
  ["another size of the world", shard({ worldSize: 3 }), /a world of 3 ranks, 2 needed/],
  [
    "a shard of another model",
    shard({ modelCard: cardOf({ modelId: "other" }) }),
    /found shards of other, local.tiny-0123abcd needed/,
  ],
  ["two kinds of shards", shard({ type: "TensorShardMetadata" }), /and .*, one kind needed/],
  ["a gap between layers", shard({ startLayer: 9 }), /layers 9 to 16 of 16, from 8 on needed/],
  ["layers held twice", shard({ startLayer: 7 }), /layers 7 to 16 of 16, from 8 on needed/],
  ["a shard without layers", shard({ endLayer: 8 }), /layers 8 to 8 of 16/],
  ["layers that are not there", shard({ endLayer: 17 }), /layers 8 to 17 of 16/],
  [
    "last layers that nobody has",
    shard({ endLayer: 12 }),
    /found layers 0 to 12 of 16, all needed/,
  ],
  [
    "ranks in another order than their layers",
    withShards(ring, (one) => {
      const [startLayer, endLayer] = one.deviceRank === 0 ? [8, 16] : [0, 8];
      return { ...one, startLayer, endLayer };
    }),
    /layers 8 to 16 of 16, from 0 on needed/,
  ],
  [
    "a model of other layers",
    withShards(ring, (one) => ({ ...one, nLayers: 12, endLayer: one.deviceRank ? 12 : 8 })),
    /found 12 layers, the model has 16/,
  ],
  ["a ring without a port", portless as Instance, /it has no ephemeralPort/],
  [
    "a node that does not name all hosts",
    { ...ring, hostsByNode: { ...hosts, [B]: [] } },
    /node node-b names 0 hosts, 2 needed/,
  ],
  ["a node that names no hosts", { ...ring, hostsByNode: {} }, /node node-a names 0 hosts/],
];
for (const [what, instance, message] of WRONG) {
  Deno.test(`CreateInstance refuses ${what}`, () => {
    rejects(() => create(instance), "invalid_request", message);
  });
}

Deno.test("CreateInstance refuses a ring whose neighbours do not reach each other", () => {
  const apart = fold([...nodes, socket(A, B), socket(B, C), cable(A, C)]);
  rejects(
    () => create(ringOf("i", NODES), apart),
    "invalid_request",
    /nodes node-c and node-a do not reach each other/,
  );
  assert.equal(create(ringOf("i", [A, B]), apart).length, 1, "the others do");
});

Deno.test("CreateInstance refuses RDMA that has no cable, no coordinator, or no ring", () => {
  const cases: readonly [Instance, State, RegExp][] = [
    [jacclOf(), fold([cable(A, B)], STATE), /from node node-b to node-a found rdma_node-a, one/],
    [jacclOf({ jacclDevices: [] }), cables, /node-a to node-b found no device, one with a cable/],
    [
      jacclOf({ jacclDevices: [["rdma_x", null], [null, null]] }),
      cables,
      /node-a to node-a found rdma_x, none needed/,
    ],
    [jacclOf({ jacclCoordinators: {} }), cables, /node node-a has no coordinator/],
    [jacclOf({ hostsByNode: {} }), cables, /node node-a names 0 hosts, 2 needed/],
    [jacclOf(), fold([...nodes, cable(A, B), cable(B, A)]), /neighbours in a ring need to/],
  ];
  for (const [instance, state, message] of cases) {
    rejects(() => create(instance, state), "invalid_request", message);
  }
});

Deno.test("CreateInstance counts on each node what its rank takes", () => {
  const half = telemetryOf(memoryOf(51 * MIB, [A, B])).memory;
  assert.equal(create(ringOf("i", [A, B]), STATE, half).length, 1);
  assert.equal(create(jacclOf(), cables, half).length, 1);
  rejects(() => create(ringOf("i", [A]), STATE, half), "placement_failed", /node-a has 51.0 MiB/);
  const little = new Map([...half, ...memoryOf(1 * MIB, [B])]);
  rejects(
    () => create(ringOf("i", [A, B]), STATE, little),
    "placement_failed",
    /node-b has 1.0 MiB/,
  );
  rejects(
    () => create(ringOf("i", [A, B]), STATE, memoryOf(51 * MIB, [A])),
    "placement_failed",
    /node-b has not reported its memory/,
  );
});
