import assert from "node:assert/strict";
import type { RdmaConnection } from "../../core/connection.ts";
import type { Event } from "../../core/events.ts";
import type { NodeId } from "../../core/ids.ts";
import type { GatheredInfo, NodeState } from "../../core/node_info.ts";
import type { State } from "../../core/state.ts";
import { A, B, C, downloaded, fold, nodeStarted } from "../support/fixtures.ts";
import { gathered, socket } from "../support/control_plane.ts";

const idents = (nodeId: NodeId): Event =>
  gathered(nodeId, {
    type: "MacThunderboltIdentifiers",
    idents: [{ domainUuid: `uuid-${nodeId}`, rdmaInterface: "rdma_en1", linkSpeed: "" }],
  });
const rdma = (nodeId: NodeId, enabled: boolean): Event =>
  gathered(nodeId, { type: "RdmaCtlStatus", enabled });
const cables = (nodeId: NodeId, ...sinks: readonly NodeId[]): Event =>
  gathered(nodeId, {
    type: "MacThunderboltConnections",
    connections: sinks.map((sink) => ({
      sourceUuid: `uuid-${nodeId}`,
      sinkUuid: `uuid-${sink}`,
    })),
  });

const ports = [nodeStarted(A), nodeStarted(B), idents(A), idents(B)];
const both = [...ports, rdma(A, true), rdma(B, true)];
const ways = (state: State) =>
  [...state.connections].flatMap(([source, sinks]) =>
    [...sinks].flatMap(([sink, edges]) => edges.map(({ type }) => `${source} ${sink} ${type}`))
  );
const A_TO_B = "node-a node-b RdmaConnection";

Deno.test("A7: a cable between two nodes with RDMA switched on is an edge", () => {
  const state = fold([...both, cables(A, B)]);
  assert.deepEqual(ways(state), [A_TO_B]);
  const edge: RdmaConnection = {
    type: "RdmaConnection",
    sourceRdmaIface: "rdma_en1",
    sinkRdmaIface: "rdma_en1",
  };
  assert.deepEqual(state.connections.get(A)?.get(B), [edge]);
  assert.equal(state.topologyIdx, both.length, "a parked wish may fit now");
});

const OFF: readonly [string, readonly Event[]][] = [
  ["the source has RDMA switched off", [rdma(A, false), rdma(B, true)]],
  ["the sink has RDMA switched off", [rdma(A, true), rdma(B, false)]],
  ["nobody has said whether the sink has", [rdma(A, true)]],
];
for (const [what, events] of OFF) {
  Deno.test(`A8: a cable is no edge when ${what}`, () => {
    assert.deepEqual(ways(fold([...ports, ...events, cables(A, B)])), []);
  });
}

Deno.test("A9: RDMA switched off takes its edges in both directions along, and no sockets", () => {
  const state = fold([
    ...both,
    nodeStarted(C),
    idents(C),
    rdma(C, true),
    cables(A, B),
    cables(B, A, C),
    socket(A, B),
    socket(C, B),
    rdma(A, false),
  ]);
  assert.deepEqual(ways(state), [
    "node-a node-b SocketConnection",
    "node-b node-c RdmaConnection",
    "node-c node-b SocketConnection",
  ]);
  assert.equal(state.nodes.get(A)?.rdmaCtlEnabled, false);
});

Deno.test("cables are told as a whole: those that a node no longer tells are gone", () => {
  const wired = fold([...both, cables(A, B), socket(A, B)]);
  assert.deepEqual(ways(fold([cables(A)], wired)), ["node-a node-b SocketConnection"]);
  const foreign = gathered(A, {
    type: "MacThunderboltConnections",
    connections: [
      { sourceUuid: "uuid-node-b", sinkUuid: "uuid-node-a" },
      { sourceUuid: "uuid-node-a", sinkUuid: "uuid-node-a" },
      { sourceUuid: "uuid-node-a", sinkUuid: "nobody's" },
    ],
  });
  assert.deepEqual(
    ways(fold([foreign], fold(both))),
    [],
    "only its own, to others, that are known",
  );
});

Deno.test("a node that starts anew has to find its cables anew", () => {
  const state = fold([...both, cables(A, B), cables(B, A), socket(A, B), nodeStarted(A, 2)]);
  assert.deepEqual(ways(state), ["node-a node-b SocketConnection"]);
  assert.deepEqual(state.nodes.get(A)?.thunderbolt, []);
});

function withFields(node: NodeState, info: unknown, rest: object): unknown {
  return { ...node, ...rest, info: { ...node.info, ...info as object } };
}

Deno.test("each kind of fact changes what it is about, and only that", () => {
  const network = [{ name: "en0", ipAddress: "10.0.0.1", interfaceType: "ethernet" as const }];
  const status = { enabled: true, exists: true };
  const facts: readonly [GatheredInfo, Record<string, unknown>][] = [
    [{ type: "MiscData", friendlyName: "Mac" }, { info: { friendlyName: "Mac" } }],
    [
      {
        type: "StaticNodeInformation",
        machineModel: "Mac Studio",
        chipId: "M3",
        osVersion: "26",
        osBuildVersion: "1",
      },
      { info: { machineModel: "Mac Studio", chipId: "M3", osVersion: "26", osBuildVersion: "1" } },
    ],
    [{ type: "NodeBackends", backends: ["MlxMetal"] }, { info: { backends: ["MlxMetal"] } }],
    [
      { type: "MemoryBandwidth", memoryBandwidthBytesPerSecond: 8e11 },
      { info: { memoryBandwidthBytesPerSecond: 8e11 } },
    ],
    [{ type: "NodeNetworkInterfaces", interfaces: network }, { network }],
    [{ type: "ThunderboltBridgeInfo", status }, { thunderboltBridge: status }],
    [{ type: "RdmaCtlStatus", enabled: true }, { rdmaCtlEnabled: true }],
  ];
  const before = fold([nodeStarted(A), nodeStarted(B)]);
  const node = before.nodes.get(A);
  assert.ok(node);
  for (const [info, { info: fields, ...rest }] of facts) {
    const after = fold([gathered(A, info)], before);
    assert.deepEqual(after.nodes.get(A), withFields(node, fields, rest), info.type);
    assert.equal(after.nodes.get(B), before.nodes.get(B));
    const again = fold([gathered(A, info)], after);
    assert.equal(again.nodes, after.nodes, "an equal fact changes nothing");
    assert.equal(again.topologyIdx, after.topologyIdx);
  }
});

Deno.test("a fact of a node that is not there is not kept", () => {
  const state = fold([gathered(A, { type: "MiscData", friendlyName: "ghost" })]);
  assert.equal(state.nodes.size, 0);
});

Deno.test("NodeTimedOut drops the node, its edges and its downloads, and nothing else", () => {
  const state = fold([
    ...both,
    nodeStarted(C),
    socket(A, B),
    socket(B, A),
    socket(B, C),
    socket(C, A),
    downloaded(A),
    downloaded(B),
    { type: "NodeTimedOut", nodeId: A },
  ]);
  assert.deepEqual([...state.nodes.keys()], [B, C]);
  assert.deepEqual(ways(state), ["node-b node-c SocketConnection"]);
  assert.deepEqual([...state.connections.keys()], [B], "C reaches nobody");
  assert.deepEqual([...state.downloads.keys()], [B]);
  assert.equal(state.topologyIdx, state.lastEventAppliedIdx);
  const again = fold([{ type: "NodeTimedOut", nodeId: A }], state);
  assert.equal(again.topologyIdx, state.topologyIdx, "what is gone does not go again");
});

Deno.test("an edge is kept once, and leaves in its own direction only", () => {
  const { connection } = socket(A, B);
  const state = fold([nodeStarted(A), nodeStarted(B), socket(A, B), socket(B, A), socket(A, B)]);
  assert.equal(state.topologyIdx, 3, "the second of two equal edges is none");
  assert.equal(state.connections.get(A)?.get(B)?.length, 1);
  const deleted: Event = { type: "TopologyEdgeDeleted", connection };
  const left = fold([deleted, deleted], state);
  assert.deepEqual(ways(left), ["node-b node-a SocketConnection"]);
});
