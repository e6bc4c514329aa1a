import { coordinatorIps, networkOf, ringGaps, ringHops } from "./addresses.ts";
import type { NodeId } from "./ids.ts";
import { type Host, type Instance, nodesByRank, type RankAddress } from "./instance.ts";
import { instanceHealth } from "./instance_health.ts";
import { hostPort, splitHostPort } from "./multiaddr.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";

/** Stands for ranks that a rank of a ring never talks to (TEST-NET-2, RFC 5737). */
const PLACEHOLDER_HOST: Host = { ip: "198.51.100.1", port: 0 };

/**
 * The hosts of all ranks as each rank sees them. A rank listens for its left neighbour at its own
 * address on the link between them, and connects to its right; both ends of a hop name the same
 * two addresses. All arguments by rank.
 */
export function hostTable(
  nodeIds: readonly NodeId[],
  hops: readonly RankAddress[],
  ports: readonly number[],
): Record<NodeId, Host[]> {
  const count = nodeIds.length;
  const hostsOf = (rank: number) =>
    hops.map(({ sinkIp }, other): Host => {
      const port = ports[other] as number;
      if (other === rank || other === (rank + 1) % count) return { ip: sinkIp, port };
      const ip = other === (rank + count - 1) % count ? hops[rank]?.sourceIp : undefined;
      return ip === undefined ? PLACEHOLDER_HOST : { ip, port };
    });
  return Object.fromEntries(nodeIds.map((nodeId, rank) => [nodeId, hostsOf(rank)]));
}

/** What a retry makes of the ways between the ranks of an instance. */
export interface Ways {
  /** Addresses in place of those that it has, by rank; absent: it keeps them. */
  readonly addresses?: RankAddress[];
  /** Neighbours, the first of which does not reach the second any more. */
  readonly gaps: readonly (readonly [NodeId, NodeId])[];
}

/**
 * The ways between the ranks of an instance that is tried again. Where one that it was placed on is
 * not reported any more, all are looked for anew, as placement does: after another DHCP lease, or
 * on Wi-Fi in place of a cable, a node has another address.
 */
export function waysOfRetry(
  state: State,
  instance: Instance,
  telemetry: Pick<Telemetry, "links">,
): Ways {
  const nodeIds = nodesByRank(instance);
  const isToldWhere = ownHosts(instance).length === nodeIds.length;
  if (!isToldWhere || instanceHealth(state, instance) !== "suspect") return { gaps: [] };
  const network = networkOf(state, telemetry);
  const hops = ringHops(network, nodeIds);
  if (!hops) return { gaps: ringGaps(network, nodeIds) };
  const ips = instance.type === "MlxJacclInstance" ? coordinatorIps(network, nodeIds) : undefined;
  const addresses = hops.map(({ sinkIp, sourceIp }, rank): RankAddress => {
    const coordinatorIp = ips?.[rank];
    // No key without a value: an event is the same for whoever has it from the wire.
    return {
      sinkIp,
      ...(sourceIp === undefined ? {} : { sourceIp }),
      ...(coordinatorIp === undefined ? {} : { coordinatorIp }),
    };
  });
  return { addresses, gaps: [] };
}

/** Where the ranks listen, as far as the instance says. */
function ownHosts(instance: Instance): Host[] {
  return nodesByRank(instance).flatMap((id, rank) => instance.hostsByNode[id]?.[rank] ?? []);
}

/** The instance at other addresses, as `waysOfRetry` has found them; its ports stay. */
export function withAddresses(instance: Instance, addresses: readonly RankAddress[]): Instance {
  const nodeIds = nodesByRank(instance);
  const own = ownHosts(instance);
  if (addresses.length !== own.length) return instance;
  const hostsByNode = hostTable(nodeIds, addresses, own.map(({ port }) => port));
  if (instance.type === "MlxRingInstance") return { ...instance, hostsByNode };
  const coordinators = Object.entries(instance.jacclCoordinators).map(([nodeId, before]) => {
    const ip = addresses[nodeIds.indexOf(nodeId as NodeId)]?.coordinatorIp;
    return [nodeId, ip === undefined ? before : hostPort(ip, splitHostPort(before).port)];
  });
  return { ...instance, hostsByNode, jacclCoordinators: Object.fromEntries(coordinators) };
}
