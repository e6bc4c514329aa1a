import { deepEqual, equal, match, ok } from "node:assert/strict";
import type { NodeId } from "../../../core/ids.ts";
import { linkKey } from "../../../core/telemetry.ts";
import { stateOfTopologyFile } from "../../../core/topology_file.ts";
import { edgesBetween } from "../../../core/topology.ts";

const [A, B] = ["a", "b"] as [NodeId, NodeId];
const nodes = [{ id: "a", memoryAvailableBytes: 10 }, { id: "b", memoryAvailableBytes: 20 }];
const socket = { source: "a", sink: "b", kind: "socket", address: "10.0.0.2" };

function read(json: unknown) {
  const found = stateOfTopologyFile(json);
  ok(found.ok, JSON.stringify(found));
  return found;
}

function refusal(json: unknown): string {
  const found = stateOfTopologyFile(json);
  ok(!found.ok);
  ok(found.error.hint);
  return found.error.message;
}

Deno.test("a topology file becomes a cluster on paper", () => {
  const { state, telemetry } = read({
    nodes: [
      { ...nodes[0], friendlyName: "Mini", backends: ["MlxCpu"], memoryBandwidthBytesPerSecond: 5 },
      nodes[1],
    ],
    links: [{ ...socket, bandwidthBitsPerSecond: 1e9, latencyMs: 2 }],
  });
  const [mini, other] = [state.nodes.get(A), state.nodes.get(B)];
  equal(mini?.info.friendlyName, "Mini");
  equal(mini?.info.memoryBandwidthBytesPerSecond, 5);
  deepEqual(mini?.info.backends, ["MlxCpu"]);
  equal(other?.info.friendlyName, "b");
  deepEqual(other?.info.backends, ["MlxMetal", "MlxCuda", "MlxCpu"], "any that a model asks for");
  equal(telemetry.memory.get(B)?.ramAvailableBytes, 20);
  const [edge] = edgesBetween(state.connections, A, B);
  deepEqual(edge, { type: "SocketConnection", sinkMultiaddr: "/ip4/10.0.0.2/tcp/52414" });
  deepEqual(edgesBetween(state.connections, B, A), [], "a socket leads one way");
  ok(edge);
  deepEqual(telemetry.links.get(linkKey(A, B, edge)), {
    bandwidthBitsPerSecond: 1e9,
    latencyMs: 2,
  });
  equal(mini?.rdmaCtlEnabled, false);
});

Deno.test("an address may be spelt in several ways", () => {
  const cases = {
    "10.0.0.2:80": "/ip4/10.0.0.2/tcp/80",
    "[fe80::2]:80": "/ip6/fe80::2/tcp/80",
    "fe80::2": "/ip6/fe80::2/tcp/52414",
    "b.local": "/dns/b.local/tcp/52414",
    "/ip4/10.0.0.2/tcp/1": "/ip4/10.0.0.2/tcp/1",
  };
  for (const [address, sinkMultiaddr] of Object.entries(cases)) {
    const { state } = read({ nodes, links: [{ ...socket, address }] });
    deepEqual(edgesBetween(state.connections, A, B), [{ type: "SocketConnection", sinkMultiaddr }]);
  }
});

Deno.test("a cable leads both ways, and its nodes have RDMA switched on", () => {
  const rdma = { source: "a", sink: "b", kind: "rdma", sourceIface: "rdma_en3", latencyMs: 0.01 };
  const { state, telemetry } = read({
    nodes: [...nodes, { id: "c", memoryAvailableBytes: 1 }],
    links: [rdma, {
      ...rdma,
      source: "b",
      sink: "a",
      sourceIface: undefined,
      sinkIface: "rdma_en3",
    }],
  });
  const back = {
    type: "RdmaConnection",
    sourceRdmaIface: "rdma_unnamed",
    sinkRdmaIface: "rdma_en3",
  };
  deepEqual(edgesBetween(state.connections, B, A), [back]);
  equal(edgesBetween(state.connections, A, B).length, 1);
  equal(telemetry.links.size, 2);
  deepEqual([...state.nodes.values()].map(({ rdmaCtlEnabled }) => rdmaCtlEnabled), [
    true,
    true,
    false,
  ]);
});

Deno.test("interface types follow from names, of either end", () => {
  const types = (links: object[]) =>
    read({ nodes, links }).state.nodes.get(B)?.network.map(({ interfaceType }) => interfaceType);
  const named = (sinkIface: string) => types([{ ...socket, sinkIface }]);
  deepEqual(named("thunderbolt0"), ["thunderbolt"]);
  deepEqual(named("bridge0"), ["thunderbolt"]);
  deepEqual(named("wlp3s0"), ["wifi"]);
  deepEqual(named("Wi-Fi"), ["wifi"]);
  deepEqual(named("enp3s0"), ["ethernet"]);
  deepEqual(named("en0"), ["maybe_ethernet"]);
  deepEqual(named("docker0"), ["unknown"]);
  deepEqual(types([socket]), ["unknown"]);
  const back = { ...socket, source: "b", sink: "a", address: "10.0.0.1", sourceIface: "eth0" };
  deepEqual(types([socket, back]), ["ethernet"], "what b calls its end of the way to a");
  const cable = { source: "a", sink: "b", kind: "rdma", sinkIface: "rdma_en5" };
  deepEqual(types([{ ...socket, sinkIface: "en5" }, cable]), ["thunderbolt"]);
  deepEqual(types([socket, { ...socket, address: "10.0.0.2:9", sinkIface: "eth0" }]), ["ethernet"]);
});

Deno.test("what cannot be is refused, with the place", () => {
  const twice = { nodes: [nodes[0], nodes[0]] };
  match(refusal(twice), /^Cannot read the topology: found node a twice, each once needed$/);
  match(refusal([]), /found \[\], an object needed/);
  match(refusal({ nodes: [] }), /nodes/);
  match(refusal({ nodes: [{ id: "a" }] }), /nodes\.0\.memoryAvailableBytes, an? .*number needed/);
  match(refusal({ nodes, edges: [] }), /found an unknown field as edges/);
  const link = (fields: object) => refusal({ nodes, links: [{ ...socket, ...fields }] });
  match(link({ sink: "z" }), /link 0: found node z, one of nodes needed/);
  match(link({ sink: "a" }), /found node a at both ends/);
  match(link({ kind: "rope" }), /links\.0\.kind, one of socket, rdma needed/);
  match(link({ address: "::1::%en0" }), /found address .*such as 10\.0\.0\.2/);
  match(link({ address: undefined }), /found no address, that of the sink needed/);
  match(refusal({ nodes, links: [socket, socket] }), /from a to b \(.*\) twice, each once needed/);
  const cable = { source: "a", sink: "b", kind: "rdma", latencyMs: 1 };
  const other = { ...cable, source: "b", sink: "a", latencyMs: 2 };
  match(refusal({ nodes, links: [cable, other] }), /twice/);
  const named = (sinkIface: string, address = "10.0.0.2") => ({ ...socket, address, sinkIface });
  match(
    refusal({ nodes, links: [named("eth0"), named("eth1", "10.0.0.2:9")] }),
    /found 10\.0\.0\.2 of b on eth0 and on eth1, one interface needed/,
  );
});
