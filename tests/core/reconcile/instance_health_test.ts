import assert from "node:assert/strict";
import type { Event } from "../../../core/events.ts";
import type { NodeId } from "../../../core/ids.ts";
import type { Instance } from "../../../core/instance.ts";
import { instanceHealth } from "../../../core/instance_health.ts";
import { A, B, C, fold, instanceOf, nodeStarted, runnerId } from "../../support/fixtures.ts";
import { edge } from "../../support/meta_instances.ts";

const PORT = 50_000;
const IPS = new Map([[A, "10.0.0.1"], [B, "10.0.0.2"], [C, "10.0.0.3"]]);
const ipOf = (nodeId: NodeId) => IPS.get(nodeId) ?? "";

/** A ring on these nodes, each of which knows the others by one address. */
function ring(...nodeIds: NodeId[]): Instance {
  const hosts = nodeIds.map((nodeId) => ({ ip: ipOf(nodeId), port: PORT }));
  const hostsByNode = Object.fromEntries(nodeIds.map((nodeId) => [nodeId, hosts]));
  return { ...instanceOf("i", nodeIds), hostsByNode, ephemeralPort: PORT } as Instance;
}

/** All nodes up, with a way from each of `mesh` to each other. */
function upWith(mesh: readonly NodeId[], ...more: Event[]) {
  const edges = mesh.flatMap((source) =>
    mesh.filter((sink) => sink !== source).map((sink) => edge(source, sink, ipOf(sink)))
  );
  return fold([...mesh.map((nodeId) => nodeStarted(nodeId)), ...edges, ...more]);
}

const cut = (source: NodeId, sink: NodeId): Event => {
  const added = edge(source, sink, ipOf(sink));
  assert.ok(added.type === "TopologyEdgeCreated");
  return { type: "TopologyEdgeDeleted", connection: added.connection };
};

Deno.test("H1: an instance of one node is healthy with it and unhealthy without", () => {
  assert.equal(instanceHealth(upWith([A]), instanceOf("i")), "healthy");
  assert.equal(instanceHealth(upWith([B]), instanceOf("i")), "unhealthy");
});

Deno.test("H2, changed by suspicion: a ring whose edges are gone or others is suspect", () => {
  assert.equal(instanceHealth(upWith([A, B]), ring(A, B)), "healthy");
  const cutOff = upWith([A, B], cut(A, B), cut(B, A));
  assert.equal(instanceHealth(cutOff, ring(A, B)), "suspect");
  const moved = [edge(A, B, "192.168.99.2"), edge(B, A, "192.168.99.1")];
  const elsewhere = upWith([A, B], cut(A, B), cut(B, A), ...moved);
  assert.equal(instanceHealth(elsewhere, ring(A, B)), "suspect");
});

Deno.test("H3, changed by suspicion: a missing edge is suspect, a missing node is not, a further one no matter", () => {
  const three = ring(A, B, C);
  assert.equal(instanceHealth(upWith([A, B, C]), three), "healthy");
  assert.equal(instanceHealth(upWith([A, B, C], cut(A, B)), three), "suspect");
  assert.equal(instanceHealth(upWith([A, B]), three), "unhealthy");
  const D = "node-d" as NodeId;
  assert.equal(instanceHealth(upWith([A, B, C], nodeStarted(D)), three), "healthy");
});

Deno.test("a ring asks only for the edges to its neighbours", () => {
  const D = "node-d" as NodeId;
  IPS.set(D, "10.0.0.4");
  const state = upWith([A, B, C, D], cut(A, C), cut(C, A), cut(B, D));
  assert.equal(instanceHealth(state, ring(A, B, C, D)), "healthy");
  assert.equal(instanceHealth(upWith([A, B, C, D], cut(D, A)), ring(A, B, C, D)), "suspect");
});

Deno.test("a ring that names no address of a neighbour is suspect", () => {
  assert.equal(instanceHealth(upWith([A, B]), instanceOf("i", [A, B])), "suspect");
});

Deno.test("ranks are told by their shards, whatever order the nodes are written in", () => {
  const { shardAssignments, ...rest } = ring(A, B, C);
  const nodeToRunner = { [C]: runnerId("i:2"), [A]: runnerId("i:0"), [B]: runnerId("i:1") };
  const shuffled = { ...rest, shardAssignments: { ...shardAssignments, nodeToRunner } } as Instance;
  assert.equal(instanceHealth(upWith([A, B, C]), shuffled), "healthy");
});

/** A pair over RDMA, with the devices of its matrix. */
function pair(...jacclDevices: (string | null)[][]): Instance {
  const { shardAssignments } = instanceOf("i", [A, B]);
  const instanceId = instanceOf("i").instanceId;
  const { hostsByNode } = ring(A, B);
  const jacclCoordinators = { [A]: "0.0.0.0:1", [B]: `${ipOf(A)}:1` };
  const common = { instanceId, shardAssignments, hostsByNode, jacclCoordinators };
  return { type: "MlxJacclInstance", ...common, jacclDevices };
}

const cable = (source: NodeId, sink: NodeId, sourceRdmaIface: string): Event => ({
  type: "TopologyEdgeCreated",
  connection: {
    source,
    sink,
    edge: { type: "RdmaConnection", sourceRdmaIface, sinkRdmaIface: "rdma_en9" },
  },
});

Deno.test("over RDMA each device that was given needs its cable, and neighbours need their ring", () => {
  const both = upWith([A, B], cable(A, B, "rdma_en5"), cable(B, A, "rdma_en4"));
  assert.equal(instanceHealth(both, pair([null, "rdma_en5"], ["rdma_en4", null])), "healthy");
  assert.equal(instanceHealth(both, pair([null, "rdma_en3"], ["rdma_en4", null])), "suspect");
  const one = upWith([A, B], cable(A, B, "rdma_en5"));
  assert.equal(instanceHealth(one, pair([null, "rdma_en5"], ["rdma_en4", null])), "suspect");
  assert.equal(instanceHealth(one, pair([null, "rdma_en5"])), "healthy", "no device, no cable");
  const ringless = upWith([A, B], cable(A, B, "rdma_en5"), cable(B, A, "rdma_en4"), cut(A, B));
  assert.equal(instanceHealth(ringless, pair([null, "rdma_en5"], ["rdma_en4", null])), "suspect");
});

Deno.test("over RDMA all others need a way to the coordinator, at the address that they have", () => {
  const cables = [cable(A, B, "rdma_en5"), cable(B, A, "rdma_en4")];
  const placed = pair([null, "rdma_en5"], ["rdma_en4", null]);
  const at = (address: string) => {
    const jacclCoordinators = { [A]: "0.0.0.0:1", [B]: address };
    return instanceHealth(upWith([A, B], ...cables), { ...placed, jacclCoordinators } as Instance);
  };
  assert.equal(at("10.0.0.1:50000"), "healthy");
  assert.equal(at("10.0.0.7:50000"), "suspect");
  const nowhere = { ...placed, jacclCoordinators: {} } as Instance;
  assert.equal(instanceHealth(upWith([A, B], ...cables), nowhere), "suspect");
});
