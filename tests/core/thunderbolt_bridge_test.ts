import assert from "node:assert/strict";
import type { Edge } from "../../core/connection.ts";
import type { Event } from "../../core/events.ts";
import { NodeId } from "../../core/ids.ts";
import type { InterfaceType } from "../../core/node_info.ts";
import { BRIDGE_CYCLES_MAX, thunderboltBridgeCycles } from "../../core/thunderbolt_bridge.ts";
import { A, B, C, fold, nodeStarted } from "../support/fixtures.ts";
import { gathered, socket } from "../support/control_plane.ts";

const bridge = (nodeId: NodeId, enabled = true) =>
  gathered(nodeId, { type: "ThunderboltBridgeInfo", status: { enabled, exists: true } });
const address = (nodeId: NodeId, ipAddress: string, interfaceType: InterfaceType = "thunderbolt") =>
  gathered(nodeId, {
    type: "NodeNetworkInterfaces",
    interfaces: [{ name: "en1", ipAddress, interfaceType }],
  });
/** A node that bridges, with a Thunderbolt address of its own. */
const bridging = (nodeId: NodeId, ip: string) => [
  nodeStarted(nodeId),
  bridge(nodeId),
  address(nodeId, ip),
];
const cycles = (...events: readonly Event[]) => thunderboltBridgeCycles(fold(events));
const three = [...bridging(A, "1.0.0.1"), ...bridging(B, "1.0.0.2"), ...bridging(C, "1.0.0.3")];

Deno.test("nodes that bridge in a ring are told once, from the first of them on", () => {
  const ring = [socket(A, B, "1.0.0.2"), socket(B, C, "1.0.0.3"), socket(C, A, "1.0.0.1")];
  assert.deepEqual(cycles(...three, ...ring), [[A, B, C]]);
  assert.deepEqual(cycles(...three, ...ring, socket(B, A, "1.0.0.1")), [[A, B, C], [A, B]]);
  assert.deepEqual(cycles(...three, ...ring.slice(1)), []);
  assert.deepEqual(cycles(...three, ...ring, bridge(C, false)), [], "one that does not bridge");
});

Deno.test("only Thunderbolt makes such a ring: its addresses, and any cable of RDMA", () => {
  const pair = [socket(A, B, "1.0.0.2"), socket(B, A, "1.0.0.1")];
  assert.deepEqual(cycles(...three, ...pair), [[A, B]]);
  assert.deepEqual(cycles(...three, ...pair, address(A, "1.0.0.1", "ethernet")), []);
  const edge = { type: "RdmaConnection" as const, sourceRdmaIface: "a", sinkRdmaIface: "b" };
  const cables = [[A, B], [B, A]].map(([source = A, sink = A]): Event => ({
    type: "TopologyEdgeCreated",
    connection: { source, sink, edge },
  }));
  const named = cycles(
    ...three,
    ...cables.map((event): Event => ({
      ...event,
      connection: {
        ...(event as typeof pair[number]).connection,
        edge: { type: "SocketConnection", sinkMultiaddr: "/dns/mac/tcp/1" },
      },
    } as Event)),
  );
  const odd = { ...pair[0]?.connection.edge, sinkMultiaddr: "/p2p-circuit" } as Edge;
  const relayed: Event = {
    type: "TopologyEdgeCreated",
    connection: { source: C, sink: A, edge: odd },
  };
  assert.deepEqual(cycles(...three, ...pair, relayed), [[A, B]], "nor does a relay");
  assert.deepEqual(named, [], "a name tells nothing of its cable");
  const silent = [nodeStarted(A), bridge(A), nodeStarted(B), bridge(B)];
  assert.deepEqual(cycles(...silent, ...pair), []);
  assert.deepEqual(cycles(...silent, ...cables), [[A, B]]);
  assert.deepEqual(cycles(nodeStarted(A), nodeStarted(B), ...cables), [], "nobody bridges");
});

Deno.test("a dense network is not searched to its end", () => {
  const nodes = Array.from(
    { length: 12 },
    (_, n) => NodeId.parse(`n${String(n).padStart(2, "0")}`),
  );
  const ip = (nodeId: NodeId) => `1.0.1.${nodes.indexOf(nodeId)}`;
  const all = nodes.flatMap((source) =>
    nodes.filter((sink) => sink !== source).map((sink) => socket(source, sink, ip(sink)))
  );
  const found = cycles(...nodes.flatMap((nodeId) => bridging(nodeId, ip(nodeId))), ...all);
  assert.equal(found.length, BRIDGE_CYCLES_MAX);
  const forward = nodes.flatMap((source, at) =>
    nodes.slice(at + 1).map((sink) => socket(source, sink, ip(sink)))
  );
  const many = Array.from({ length: 20 }, (_, n) => NodeId.parse(`x${n}`));
  assert.deepEqual(cycles(...nodes.flatMap((id) => bridging(id, ip(id))), ...forward), []);
  const wide = many.flatMap((source, at) =>
    many.slice(at + 1).map((sink) => socket(source, sink, `1.0.2.${many.indexOf(sink)}`))
  );
  const started = many.flatMap((id, n) => bridging(id, `1.0.2.${n}`));
  assert.deepEqual(cycles(...started, ...wide), [], "and ways without end are left at a limit");
});
