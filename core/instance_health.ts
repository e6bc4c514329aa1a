import type { NodeId } from "./ids.ts";
import { type Instance, nodesByRank } from "./instance.ts";
import { parseMultiaddr } from "./multiaddr.ts";
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
  const isConnected = instance.type === "MlxRingInstance"
    ? ranks.every((_, rank) => hasRingEdges(state, { instance, ranks, rank }))
    : ranks.every((_, rank) => hasRdmaEdges(state, { instance, ranks, rank }));
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

type OnRank<T extends Instance["type"]> = {
  readonly instance: Extract<Instance, { type: T }>;
  readonly ranks: readonly NodeId[];
  readonly rank: number;
};

/** Whether a rank still reaches both neighbours at the addresses that it was given for them. */
function hasRingEdges(
  state: State,
  { instance, ranks, rank }: OnRank<"MlxRingInstance">,
): boolean {
  const isNeighbour = (other: number) =>
    other !== rank && [1, ranks.length - 1].includes(Math.abs(other - rank));
  return ranks.every((sink, other) => {
    if (!isNeighbour(other)) return true;
    const source = ranks[rank] as NodeId;
    const host = instance.hostsByNode[source]?.[other];
    return host !== undefined &&
      edgesBetween(state.connections, source, sink).some((edge) =>
        edge.type === "SocketConnection" && parseMultiaddr(edge.sinkMultiaddr)?.host === host.ip
      );
  });
}

/** Whether a rank still has a cable from each device that it was given to that device's rank. */
function hasRdmaEdges(
  state: State,
  { instance, ranks, rank }: OnRank<"MlxJacclInstance">,
): boolean {
  const devices = instance.jacclDevices[rank] ?? [];
  return ranks.every((sink, other) => {
    const device = devices[other] ?? null;
    const edges = edgesBetween(state.connections, ranks[rank] as NodeId, sink);
    return device === null ||
      edges.some((edge) => edge.type === "RdmaConnection" && edge.sourceRdmaIface === device);
  });
}
