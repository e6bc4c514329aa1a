import type { NodeId } from "./ids.ts";
import { type Instance, nodesByRank } from "./instance.ts";
import { parseMultiaddr, splitHostPort } from "./multiaddr.ts";
import type { State } from "./state.ts";
import { edgesBetween } from "./topology.ts";

/**
 * How an instance is connected. `suspect`: an edge that it was placed on is not reported any more,
 * which by itself proves nothing while its runners live (design, suspicion). `unhealthy`: a node
 * of it is not there.
 */
export type InstanceHealth = "healthy" | "suspect" | "unhealthy";

/** How an instance is connected, for display and for whoever decides about it. */
export function instanceHealth(state: State, instance: Instance): InstanceHealth {
  if (!hasAllNodes(state, instance)) return "unhealthy";
  const ranks = nodesByRank(instance);
  const isConnected = ranks.every((_, rank) =>
    hasRingEdges(state, { instance, ranks, rank }) &&
    (instance.type === "MlxRingInstance" || hasRdmaEdges(state, { instance, ranks, rank }) &&
        reachesCoordinator(state, { instance, ranks, rank }))
  );
  return isConnected ? "healthy" : "suspect";
}

/** Whether every node that an instance needs is there. */
export function hasAllNodes(state: State, instance: Instance): boolean {
  return nodesOf(instance).every((nodeId) => state.nodes.has(nodeId));
}

/** The nodes of an instance. */
export function nodesOf(instance: Instance): NodeId[] {
  return Object.keys(instance.shardAssignments.nodeToRunner) as NodeId[];
}

type OnRank<T extends Instance> = {
  readonly instance: T;
  readonly ranks: readonly NodeId[];
  readonly rank: number;
};

/** Whether a rank still reaches both neighbours at the addresses that it was given for them. */
function hasRingEdges(
  state: State,
  { instance, ranks, rank }: OnRank<Instance>,
): boolean {
  const isNeighbour = (other: number) =>
    other !== rank && [1, ranks.length - 1].includes(Math.abs(other - rank));
  return ranks.every((sink, other) => {
    if (!isNeighbour(other)) return true;
    const source = ranks[rank] as NodeId;
    const host = instance.hostsByNode[source]?.[other];
    return host !== undefined && isReachedAt(state, { source, sink, ip: host.ip });
  });
}

function isReachedAt(
  { connections }: State,
  { source, sink, ip }: { readonly source: NodeId; readonly sink: NodeId; readonly ip: string },
): boolean {
  return edgesBetween(connections, source, sink).some((edge) =>
    edge.type === "SocketConnection" && parseMultiaddr(edge.sinkMultiaddr)?.host === ip
  );
}

/** Whether a rank still has a cable from each device that it was given to that device's rank. */
function hasRdmaEdges(
  state: State,
  { instance, ranks, rank }: OnRank<Extract<Instance, { type: "MlxJacclInstance" }>>,
): boolean {
  const devices = instance.jacclDevices[rank] ?? [];
  return ranks.every((sink, other) => {
    const device = devices[other] ?? null;
    const edges = edgesBetween(state.connections, ranks[rank] as NodeId, sink);
    return device === null ||
      edges.some((edge) => edge.type === "RdmaConnection" && edge.sourceRdmaIface === device);
  });
}

/** Whether a rank still reaches the first one where it was told to find the coordinator. */
function reachesCoordinator(
  state: State,
  { instance, ranks, rank }: OnRank<Extract<Instance, { type: "MlxJacclInstance" }>>,
): boolean {
  const [sink, source] = [ranks[0] as NodeId, ranks[rank] as NodeId];
  const { ip } = splitHostPort(instance.jacclCoordinators[source] ?? "");
  return rank === 0 || isReachedAt(state, { source, sink, ip });
}
