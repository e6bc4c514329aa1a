import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { addressesTo, coordinatorIps, networkOf, ringHop } from "../../../core/addresses.ts";
import { graphsOf } from "../../../core/link_graph.ts";
import type { NodeId } from "../../../core/ids.ts";
import type { Host } from "../../../core/instance.ts";
import { hostPort, parseMultiaddr } from "../../../core/multiaddr.ts";
import {
  freePortCount,
  INSTANCE_PORTS,
  LIBP2P_PORT,
  PortRange,
  portsInUse,
  rankPorts,
} from "../../../core/ports.ts";
import { deviceMatrix, rdmaLink } from "../../../core/rdma_links.ts";
import { PlacementRequest } from "../../../core/placement_request.ts";
import { previews } from "../../../core/previews.ts";
import { addConnection } from "../../../core/topology.ts";
import { jacclInstance, listeningIps, ringInstance } from "../../../core/assignment.ts";
import { created, fold, instanceId } from "../../support/fixtures.ts";
import {
  bothWays,
  cable,
  clusterOf,
  metalCard,
  node,
  placedOn,
  reach,
  refusedOn,
} from "../../support/topology.ts";

const [A, B, C] = ["a", "b", "c"] as [NodeId, NodeId, NodeId];
const nodes = ["a", "b", "c"].map((id) => node(id, 1_000));

function network(...links: Parameters<typeof clusterOf>[1] & object) {
  const { state, telemetry } = clusterOf(nodes, links);
  return networkOf(state, telemetry);
}

Deno.test("a multiaddr is read if it leads straight to a port", () => {
  deepEqual(parseMultiaddr("/ip4/10.0.0.1/tcp/80/p2p/Qm"), {
    addressType: "ip4",
    host: "10.0.0.1",
    port: 80,
  });
  deepEqual(parseMultiaddr("/ip6/fe80::1"), { addressType: "ip6", host: "fe80::1" });
  deepEqual(parseMultiaddr("/dns4/mac.local/tcp/1")?.host, "mac.local");
  for (
    const wrong of [
      "10.0.0.1",
      "/ip4/10.0.0.256/tcp/1",
      "/ip4/1.2.3",
      "/ip6/fe80::1%en0/tcp/1",
      "/ip4/1.2.3.4/tcp/65536",
      "/ip4/1.2.3.4/udp/1",
      "/ip4/1.2.3.4/tcp/1/p2p/Qm/p2p-circuit",
    ]
  ) {
    equal(parseMultiaddr(wrong), undefined, wrong);
  }
  equal(hostPort("10.0.0.1", 80), "10.0.0.1:80");
  equal(hostPort("fe80::1", 80), "[fe80::1]:80");
});

Deno.test("names, relays and unspecified addresses are none that a ring could use", () => {
  const found = network(
    reach("a", "b", "b.local:1"),
    reach("a", "b", "0.0.0.0"),
    reach("a", "b", "[::]:1"),
    cable("a", "b", "rdma_en1"),
  );
  deepEqual(addressesTo(found, A, B), []);
  equal(ringHop(found, A, B), undefined);
});

Deno.test("both ends of a hop find the same pair of addresses", () => {
  const found = network(
    reach("a", "b", "10.0.1.2", { sinkIface: "eth1" }),
    reach("a", "b", "10.0.2.2", { sinkIface: "eth2" }),
    reach("b", "a", "10.0.2.1", { sinkIface: "eth2" }),
    reach("b", "a", "10.0.1.1", { sinkIface: "eth1" }),
  );
  const [there, back] = [ringHop(found, A, B), ringHop(found, B, A)];
  deepEqual([there?.sourceIp, there?.sinkIp], [back?.sinkIp, back?.sourceIp]);
  equal(there?.sourceIp?.slice(0, 6), there?.sinkIp.slice(0, 6), "on one network");
});

Deno.test("of equal links the one that was measured faster, else the newest", () => {
  const pairs = (fields = {}) => [
    reach("a", "b", "10.0.0.2", fields),
    reach("b", "a", "10.0.0.1", fields),
    reach("a", "b", "10.0.0.6"),
    reach("b", "a", "10.0.0.5"),
  ];
  equal(ringHop(network(...pairs()), A, B)?.sinkIp, "10.0.0.6");
  const faster = network(...pairs({ bandwidthBitsPerSecond: 4e10, latencyMs: 0.2 }));
  deepEqual(ringHop(faster, A, B)?.latencyMs, 0.2);
  equal(ringHop(faster, B, A)?.sourceIp, "10.0.0.2");
});

Deno.test("wifi gives way to a cable, IPv6 to IPv4", () => {
  const found = network(
    reach("a", "b", "10.0.0.2", { sinkIface: "en0" }),
    reach("b", "a", "10.0.0.1", { sinkIface: "en0" }),
    reach("a", "b", "10.1.0.2", { sinkIface: "wlan0" }),
    reach("b", "a", "10.1.0.1", { sinkIface: "wlan0" }),
    reach("a", "c", "fe80:1::3"),
    reach("c", "a", "fe80:1::1"),
    reach("a", "c", "fe80:2::3"),
    reach("b", "c", "fe80:1::3"),
    reach("c", "b", "10.0.0.2"),
  );
  deepEqual([ringHop(found, A, B)?.type, ringHop(found, A, B)?.sinkIp], [
    "maybe_ethernet",
    "10.0.0.2",
  ]);
  deepEqual(ringHop(found, A, C)?.sinkIp, "fe80:1::3", "the one that shares the network");
  const oneFamilyEach = ringHop(found, B, C);
  deepEqual([oneFamilyEach?.sourceIp, oneFamilyEach?.sinkIp], [undefined, "fe80:1::3"]);
});

Deno.test("the worse end of a link counts", () => {
  const found = network(
    reach("a", "b", "10.0.0.2", { sinkIface: "eth0" }),
    reach("b", "a", "10.0.0.1", { sinkIface: "wlan0" }),
  );
  deepEqual([ringHop(found, A, B)?.type, ringHop(found, B, A)?.type], ["wifi", "wifi"]);
});

Deno.test("the worse end counts whichever it is", () => {
  const found = network(
    reach("a", "b", "10.0.0.2", { sinkIface: "wlan0" }),
    reach("b", "a", "10.0.0.1", { sinkIface: "eth0" }),
  );
  equal(ringHop(found, A, B)?.type, "wifi");
});

Deno.test("a relay, and nodes of which nothing is known yet, are passed over", () => {
  const { state, telemetry } = clusterOf(nodes, [reach("a", "b", "127.0.0.1")]);
  const edge = { type: "SocketConnection" as const, sinkMultiaddr: "/p2p/Qm/p2p-circuit" };
  const relayed = addConnection(state.connections, { source: A, sink: B, edge });
  const found = networkOf({ ...state, nodes: new Map(), connections: relayed }, telemetry);
  deepEqual(addressesTo(found, A, B).map(({ ip }) => ip), ["127.0.0.1"]);
});

Deno.test("an instance is made only over links that there are", () => {
  const { state, telemetry } = clusterOf(nodes, [reach("a", "b", "10.0.0.2")]);
  const assignment = {
    ...{ instanceId: instanceId("i"), nodeIds: [A, B], shards: [], usedPorts: new Set<number>() },
    network: networkOf(state, telemetry),
  };
  const card = metalCard(1);
  const shard = {
    ...{ type: "PipelineShardMetadata" as const, modelCard: card, deviceRank: 0, worldSize: 2 },
    ...{ startLayer: 0, endLayer: 8, nLayers: 16 },
  };
  const both = { ...assignment, shards: [shard, { ...shard, deviceRank: 1 }] };
  equal(ringInstance(both), undefined);
  equal(jacclInstance(both), undefined);
  deepEqual(listeningIps(assignment.network, [A, B], "MlxRing"), []);
});

Deno.test("an instance is made only where there is a port for it", () => {
  const ids = ["a", "b"];
  const links = [...bothWays(ids, [[0, 1]]), cable("a", "b", "rdma_en5")];
  const cluster = clusterOf(ids.map((id) => node(id, 600)), links);
  const card = metalCard(1_000);
  const ringPorts = { from: 50_000, to: 50_000 };
  const { instance } = placedOn(cluster, card, { ringPorts });
  const taken = { ...cluster, state: fold([created(instance)], cluster.state) };
  const reasons = (["MlxRing", "MlxJaccl"] as const).map((instanceMeta) => {
    const request = { ringPorts, instanceMeta, minNodes: 2 };
    return refusedOn(taken, metalCard(100), request).reason.replace(/.*: /, "");
  });
  const found = "found every port from 50000 to 50000 in use";
  deepEqual(reasons, [`${found}, a free one needed`, `${found}, 2 needed with RDMA`]);
  const shards = Object.values(instance.shardAssignments.runnerToShard);
  const assignment = {
    ...{ instanceId: instanceId("j"), nodeIds: [A, B], shards, ports: ringPorts },
    usedPorts: portsInUse(taken.state),
    network: networkOf(taken.state, taken.telemetry),
  };
  equal(ringInstance(assignment), undefined);
  equal(jacclInstance(assignment), undefined);
});

const ONE_HOST = [reach("a", "b", "127.0.0.1:52416"), reach("b", "a", "127.0.0.1:52414")];

Deno.test("nodes of one host link over loopback, each rank at a port of its own", () => {
  const local = clusterOf([node("a", 600), node("b", 600)], ONE_HOST);
  const { instance } = placedOn(local, metalCard(1_000));
  ok(instance.type === "MlxRingInstance");
  const [a, b] = instance.hostsByNode[A] as [Host, Host];
  deepEqual([a.ip, b.ip], ["127.0.0.1", "127.0.0.1"]);
  notEqual(a.port, b.port);
  deepEqual(instance.hostsByNode[B], [a, b]);
});

Deno.test("loopback never links two hosts", () => {
  const found = network(
    ...bothWays(["a", "b"], [[0, 1]]),
    reach("a", "b", "127.0.0.1"),
    reach("b", "a", "127.0.0.1"),
    reach("a", "c", "127.0.0.1"),
    reach("c", "a", "[::1]:5"),
    reach("c", "b", "10.0.0.9"),
  );
  equal(ringHop(found, A, B)?.sinkIp, "10.0.0.2");
  equal(ringHop(found, A, C), undefined);
  const shared = network(
    reach("a", "b", "127.0.0.1"),
    reach("b", "a", "127.0.0.1"),
    reach("c", "a", "10.0.0.1"),
    reach("c", "b", "10.0.0.1:52416"),
    reach("a", "b", "10.0.0.1"),
    reach("b", "a", "10.0.0.1"),
  );
  deepEqual([ringHop(shared, A, B)?.sinkIp, ringHop(shared, A, B)?.type], [
    "127.0.0.1",
    "loopback",
  ]);
});

Deno.test("the coordinator is found at one address if one serves all, off the cables of RDMA", () => {
  const thunderbolt = { sinkIface: "thunderbolt0" };
  const found = network(
    reach("b", "a", "10.9.0.1", thunderbolt),
    reach("b", "a", "192.168.0.1", { sinkIface: "eth0" }),
    reach("c", "a", "10.9.0.1", thunderbolt),
    reach("c", "a", "192.168.0.1"),
  );
  deepEqual(coordinatorIps(found, [A, B, C]), Array(3).fill("192.168.0.1"));
  deepEqual(coordinatorIps(found, [B, A]), undefined, "nobody reaches b");
  deepEqual(coordinatorIps(found, []), undefined);
  const six = network(reach("b", "a", "fe80::1"), reach("b", "a", "10.0.0.1"));
  deepEqual(coordinatorIps(six, [A, B]), ["10.0.0.1", "10.0.0.1"]);
});

Deno.test("of several cables both ends use the same one, the fastest", () => {
  const two = network(
    cable("a", "b", "rdma_en1", "rdma_en3"),
    cable("a", "b", "rdma_en2", "rdma_en4"),
  );
  deepEqual(rdmaLink(two, A, B), { sourceIface: "rdma_en2", sinkIface: "rdma_en4" }, "newest");
  deepEqual(rdmaLink(two, B, A), { sourceIface: "rdma_en4", sinkIface: "rdma_en2" });
  const fast = { ...cable("a", "b", "rdma_en1", "rdma_en3"), bandwidthBitsPerSecond: 8e10 };
  const measured = network(fast, cable("a", "b", "rdma_en2", "rdma_en4"));
  deepEqual(rdmaLink(measured, B, A), { sourceIface: "rdma_en3", sinkIface: "rdma_en1" });
  deepEqual(deviceMatrix(two, [A, B, C]), undefined, "c has no cable");
});

Deno.test("a cable that only one end tells of is none", () => {
  const { state, telemetry } = clusterOf(nodes, [cable("a", "b", "rdma_en1")]);
  const connections = new Map([...state.connections].filter(([id]) => id === A));
  equal(rdmaLink(networkOf({ ...state, connections }, telemetry), A, B), undefined);
});

Deno.test("a hop takes half a measured round trip, else what is usual", () => {
  const measured = network(
    reach("a", "b", "10.0.0.2", { latencyMs: 4 }),
    reach("b", "c", "10.0.0.3"),
  );
  const graph = graphsOf(measured, [A, B, C], "MlxRing").strict();
  equal(graph.hopSeconds(0, 1), 0.002);
  equal(graph.hopSeconds(1, 2), 0.000_5);
  equal(graph.hopSeconds(0, 2), 0.000_5, "no link at all");
});

/** The port of an instance that meets at one. */
const portOf = (seed: string, used: ReadonlySet<number>, range?: PortRange) =>
  rankPorts(["10.0.0.1"], { seed, used, range })?.[0];

Deno.test("an instance has a port that follows from its id, and that no other one has", () => {
  const used = portsInUse({ instances: new Map() });
  const port = portOf("i", used);
  ok(port !== undefined && port >= INSTANCE_PORTS.from && port <= INSTANCE_PORTS.to);
  equal(port, portOf("i", used));
  notEqual(port, portOf("j", used));
  notEqual(port, portOf("i", new Set([port])));
  for (const reserved of [LIBP2P_PORT, 52_415]) ok(used.has(reserved));
});

Deno.test("a port comes of the range that is allowed, as long as one is free", () => {
  const range = { from: 50_000, to: 50_002 };
  const used = new Set<number>();
  for (let left = 3; left > 0; left--) {
    equal(freePortCount(range, used), left);
    used.add(portOf("i", used, range) ?? 0);
  }
  deepEqual([...used].sort(), [50_000, 50_001, 50_002]);
  equal(portOf("i", used, range), undefined);
  ok(PortRange.safeParse({ from: 1_024, to: 65_535 }).success);
  ok(PortRange.safeParse({ from: 50_000, to: 50_000 }).success);
  for (const [from, to] of [[50_001, 50_000], [1_023, 2_000], [2_000, 65_536]]) {
    equal(PortRange.safeParse({ from, to }).success, false, `${from}-${to}`);
  }
});

Deno.test("instances that exist keep their ports", () => {
  const ids = ["a", "b"];
  const cluster = clusterOf(ids.map((id) => node(id, 600)), [
    ...bothWays(ids, [[0, 1]]),
    cable("a", "b", "rdma_en5"),
  ]);
  const ring = placedOn(cluster, metalCard(1_000)).instance;
  ok(ring.type === "MlxRingInstance");
  const ports = portsInUse(fold([created(ring)]));
  ok(ports.has(ring.ephemeralPort ?? 0));
  const jaccl = placedOn(cluster, metalCard(1_000), { instanceMeta: "MlxJaccl" }).instance;
  ok(jaccl.type === "MlxJacclInstance");
  const port = Number(jaccl.jacclCoordinators[A]?.split(":")[1]);
  match(`${port}`, /^\d{5}$/);
  ok(portsInUse(fold([created(jaccl)])).has(port));
  notEqual(portOf("i", portsInUse(fold([created(jaccl)]))), port);
});

Deno.test("an instance of several nodes meets at the ports that are allowed, or nowhere", () => {
  const cluster = clusterOf([node("a", 600), node("b", 600)], [
    ...bothWays(["a", "b"], [[0, 1]]),
    cable("a", "b", "rdma_en5"),
  ]);
  const ringPorts = { from: 50_000, to: 50_000 };
  const card = metalCard(1_000);
  const ring = placedOn(cluster, card, { ringPorts }).instance;
  ok(ring.type === "MlxRingInstance");
  equal(ring.ephemeralPort, 50_000);
  for (const { port } of Object.values(ring.hostsByNode).flat()) equal(port, 50_000);
  const rdma = { instanceMeta: "MlxJaccl" } as const;
  match(
    refusedOn(cluster, card, { ringPorts, ...rdma }).reason,
    /found 1 free of the ports from 50000 to 50000, 2 needed with RDMA$/,
  );
  const two = { from: 50_000, to: 50_001 };
  const jaccl = placedOn(cluster, card, { ringPorts: two, ...rdma }).instance;
  ok(jaccl.type === "MlxJacclInstance");
  const [port = 0] = Object.values(jaccl.hostsByNode).flat().map(({ port }) => port);
  deepEqual([...portsInUse(fold([created(jaccl)]))].filter((one) => one < 52_000).toSorted(), [
    50_000,
    50_001,
  ]);
  match(jaccl.jacclCoordinators[A] ?? "", new RegExp(`:${100_001 - port}$`), "not the ring's");

  const state = fold([created(ring)], cluster.state);
  const taken = { ...cluster, state };
  const small = metalCard(100);
  equal(placedOn(taken, small, { ringPorts }).nodeIds.length, 1, "one node needs no port");
  const refused = refusedOn(taken, small, { ringPorts, minNodes: 2 });
  equal(
    refused.reason,
    `Cannot place "${small.modelId}" on several nodes: found every port from 50000 to 50000 in ` +
      "use, a free one needed",
  );
  match(refused.hint, /exo instance delete .*--ring-ports/);
  const previewed = (minNodes: number) => {
    const request = PlacementRequest.parse({ modelId: small.modelId, ringPorts, minNodes });
    const options = { instanceId: instanceId("i"), card: small, request };
    return previews(state, cluster.telemetry, options);
  };
  const shown = previewed(1);
  deepEqual(shown.placements.map(({ nodeIds }) => nodeIds.length), [1]);
  ok(shown.rejected.some(({ reason }) => reason.includes("every port from 50000 to 50000")));
  deepEqual(previewed(2).placements, []);
  const [first] = previewed(2).rejected;
  match(first?.reason ?? "", /every port from 50000 to 50000 in use/);
});

Deno.test("ranks of one host that would get one port are refused, with what they need", () => {
  const local = clusterOf([node("a", 600), node("b", 600)], ONE_HOST);
  const card = metalCard(1_000);
  const ringPorts = { from: 50_000, to: 50_000 };
  const refused = refusedOn(local, card, { ringPorts });
  equal(
    refused.reason,
    `Cannot place "${card.modelId}" on several nodes: found 1 free of the ports from 50000 to ` +
      "50000, 2 needed: a, b share a host",
  );
  match(refused.hint, /exo instance delete .*--ring-ports/);
  const two = { from: 50_000, to: 50_001 };
  const { instance } = placedOn(local, card, { ringPorts: two });
  ok(instance.type === "MlxRingInstance");
  deepEqual([...portsInUse(fold([created(instance)]))].filter((port) => port <= 50_001).sort(), [
    50_000,
    50_001,
  ]);
});
