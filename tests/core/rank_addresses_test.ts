import assert from "node:assert/strict";
import fc from "fast-check";
import { addressesTo, networkOf } from "../../core/addresses.ts";
import { jacclInstance, ringInstance } from "../../core/assignment.ts";
import type { NodeId } from "../../core/ids.ts";
import { type Instance, nodesByRank, runnersOf, type Shard } from "../../core/instance.ts";
import { splitHostPort } from "../../core/multiaddr.ts";
import { waysOfRetry, withAddresses } from "../../core/rank_addresses.ts";
import type { State } from "../../core/state.ts";
import { NO_TELEMETRY } from "../../core/telemetry.ts";
import { A, B, C, fold, instanceId, instanceOf, nodeStarted } from "../support/fixtures.ts";
import { edge } from "../support/meta_instances.ts";

const NODES = [A, B, C];
const IPS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2", "fd00::3"];

/** One way to a node that is reported. */
interface Way {
  readonly source: NodeId;
  readonly sink: NodeId;
  readonly ip: string;
}

const anyWay: fc.Arbitrary<Way> = fc.record({
  source: fc.constantFrom(...NODES),
  sink: fc.constantFrom(...NODES),
  ip: fc.constantFrom(...IPS),
}).filter(({ source, sink }) => source !== sink);

const anyWays = fc.array(anyWay, { minLength: 4, maxLength: 24 });

/** Cables for RDMA between all nodes: it is addresses that come and go here. */
const CABLES = NODES.flatMap((source) =>
  NODES.filter((sink) => sink !== source).map((sink) => ({
    type: "TopologyEdgeCreated" as const,
    connection: {
      source,
      sink,
      edge: {
        type: "RdmaConnection" as const,
        sourceRdmaIface: `rdma_${sink}`,
        sinkRdmaIface: `rdma_${source}`,
      },
    },
  }))
);

function stateWith(ways: readonly Way[]): State {
  const sockets = ways.map(({ source, sink, ip }) => edge(source, sink, ip));
  return fold([...NODES.map((nodeId) => nodeStarted(nodeId)), ...CABLES, ...sockets]);
}

/** What placement makes of so many nodes of a state. */
function placedOn(state: State, type: Instance["type"], count: number): Instance | undefined {
  const nodeIds = NODES.slice(0, count);
  const { runnerToShard } = instanceOf("i", nodeIds).shardAssignments;
  const place = type === "MlxRingInstance" ? ringInstance : jacclInstance;
  return place({
    instanceId: instanceId("i"),
    nodeIds,
    shards: Object.values(runnerToShard) as Shard[],
    network: networkOf(state, NO_TELEMETRY),
    usedPorts: new Set(),
  });
}

const anyType = fc.constantFrom<Instance["type"]>("MlxRingInstance", "MlxJacclInstance");
const anyCount = fc.constantFrom(2, 3);

Deno.test("after a retry all addresses are ones at which the ranks reach each other", () => {
  const seen = { kept: 0, moved: 0, apart: 0, coordinators: 0 };
  fc.assert(
    fc.property(anyWays, anyWays, anyType, anyCount, (before, after, type, count) => {
      const instance = placedOn(stateWith(before), type, count);
      fc.pre(instance !== undefined);
      const state = stateWith(after);
      const { addresses, gaps } = waysOfRetry(state, instance, NO_TELEMETRY);
      const network = networkOf(state, NO_TELEMETRY);
      const reaches = (source: NodeId, sink: NodeId, ip: string) =>
        addressesTo(network, source, sink).some((address) => address.ip === ip);
      if (gaps.length > 0) {
        seen.apart++;
        assert.equal(addresses, undefined);
        for (const [source, sink] of gaps) {
          assert.deepEqual(addressesTo(network, source, sink), []);
        }
        return;
      }
      addresses ? seen.moved++ : seen.kept++;
      const moved = addresses ? withAddresses(instance, addresses) : instance;
      const nodeIds = nodesByRank(moved);
      for (const [rank, nodeId] of nodeIds.entries()) {
        const left = nodeIds.at(rank - 1) as NodeId;
        const leftRank = (rank + count - 1) % count;
        const own = moved.hostsByNode[nodeId]?.[rank];
        assert.ok(own && reaches(left, nodeId, own.ip), "its left neighbour reaches it");
        assert.deepEqual(moved.hostsByNode[left]?.[rank], own, "and is told so");
        const port: number | undefined = instance.hostsByNode[nodeId]?.[rank]?.port;
        assert.equal(own.port, port, "ports are another matter");
        const of = moved.hostsByNode[nodeId]?.[leftRank];
        assert.ok(of && (of.port === 0 || reaches(nodeId, left, of.ip)));
      }
      if (moved.type !== "MlxJacclInstance") return;
      const [first, ...others] = nodeIds as [NodeId, ...NodeId[]];
      for (const nodeId of others) {
        const { ip } = splitHostPort(moved.jacclCoordinators[nodeId] ?? "");
        if (others.every((id) => addressesTo(network, id, first).length > 0)) {
          seen.coordinators++;
          assert.ok(reaches(nodeId, first, ip), `${nodeId} reaches its coordinator`);
        }
      }
    }),
    { seed: 11, numRuns: 2_000 },
  );
  for (const [what, times] of Object.entries(seen)) assert.ok(times > 20, `${what}: ${times}`);
});

Deno.test("what is found anew is what placement would have found", () => {
  fc.assert(
    fc.property(anyWays, anyWays, anyType, anyCount, (before, after, type, count) => {
      const instance = placedOn(stateWith(before), type, count);
      const placed = placedOn(stateWith(after), type, count);
      fc.pre(instance !== undefined && placed !== undefined);
      const { addresses } = waysOfRetry(stateWith(after), instance, NO_TELEMETRY);
      fc.pre(addresses !== undefined);
      const ipsOf = ({ hostsByNode }: Instance) =>
        Object.values(hostsByNode).map((hosts) => hosts.map(({ ip }) => ip));
      const wire = JSON.parse(JSON.stringify(addresses));
      assert.deepEqual(wire, addresses, "an event is the same for all");
      const moved = withAddresses(instance, wire);
      assert.deepEqual(ipsOf(moved), ipsOf(placed));
      const coordinators = (one: Instance) =>
        one.type === "MlxRingInstance"
          ? []
          : Object.values(one.jacclCoordinators).map((address) => splitHostPort(address).ip);
      assert.deepEqual(coordinators(moved), coordinators(placed));
    }),
    { seed: 12, numRuns: 1_000 },
  );
});

Deno.test("a coordinator that some node does not reach any more stays where it was", () => {
  const ways = (ids: readonly NodeId[]) =>
    ids.map((source, at): Way => {
      const sink = ids[(at + 1) % ids.length] as NodeId;
      return { source, sink, ip: IPS[NODES.indexOf(sink)] as string };
    });
  const both = stateWith([...ways(NODES), ...ways(NODES.toReversed())]);
  const instance = placedOn(both, "MlxJacclInstance", 3);
  assert.ok(instance?.type === "MlxJacclInstance");
  // Round the ring all is well, but B, which is not A's left neighbour, reaches it no more.
  const state = stateWith(ways(NODES));
  const { addresses } = waysOfRetry(state, instance, NO_TELEMETRY);
  assert.ok(addresses);
  const moved = withAddresses(instance, addresses);
  assert.ok(moved.type === "MlxJacclInstance");
  assert.deepEqual(moved.jacclCoordinators, instance.jacclCoordinators);
});

Deno.test("an instance that says nowhere where its ranks are has no addresses to lose", () => {
  const state = stateWith([]);
  for (const nodeIds of [[A], [A, B]]) {
    assert.deepEqual(waysOfRetry(state, instanceOf("i", nodeIds), NO_TELEMETRY), { gaps: [] });
  }
});

Deno.test("addresses of another number of ranks change nothing", () => {
  const [ab, ba] = [{ source: A, sink: B, ip: "10.0.0.2" }, { source: B, sink: A, ip: "10.0.0.1" }];
  const instance = placedOn(stateWith([ab, ba]), "MlxRingInstance", 2);
  assert.ok(instance && runnersOf(instance).length === 2);
  for (const count of [0, 1, 3]) {
    const addresses = Array.from({ length: count }, () => ({ sinkIp: "10.9.9.9" }));
    assert.equal(withAddresses(instance, addresses), instance);
  }
});
