import { type Connection, type Connections, type Edge, isSameEdge } from "./connection.ts";
import type { NodeId } from "./ids.ts";
import { isSame } from "./same.ts";
import { drop, put } from "./state.ts";

/** The edges from one node to another, the oldest first. */
export function edgesBetween(
  connections: Connections,
  source: NodeId,
  sink: NodeId,
): readonly Edge[] {
  return connections.get(source)?.get(sink) ?? [];
}

/** The connections with one more; themselves when there is an equal one. */
export function addConnection(
  connections: Connections,
  { source, sink, edge }: Connection,
): Connections {
  const edges = edgesBetween(connections, source, sink);
  if (edges.some((other) => isSameEdge(other, edge))) return connections;
  return withEdges(connections, { source, sink }, [...edges, edge]);
}

/** The connections without an edge, in this direction only. */
export function removeConnection(
  connections: Connections,
  { source, sink, edge }: Connection,
): Connections {
  const edges = edgesBetween(connections, source, sink);
  const left = edges.filter((other) => !isSameEdge(other, edge));
  if (left.length === edges.length) return connections;
  return withEdges(connections, { source, sink }, left);
}

/** The connections without a node. One copy of the table: a thousand nodes may know each other. */
export function removeNode(connections: Connections, nodeId: NodeId): Connections {
  const left = new Map(connections);
  left.delete(nodeId);
  for (const [source, before] of connections) {
    if (source === nodeId || !before.has(nodeId)) continue;
    const sinks = drop(before, nodeId);
    if (sinks.size === 0) left.delete(source);
    else left.set(source, sinks);
  }
  return left;
}

/** The connections with these RDMA edges of `source` in place of all that it had, if they differ. */
export function replaceAllOutRdma(
  connections: Connections,
  source: NodeId,
  rdma: readonly Connection[],
): Connections {
  const sinks = connections.get(source) ?? new Map<NodeId, readonly Edge[]>();
  let left = connections;
  for (const [sink, edges] of sinks) {
    if (!edges.every(isSocket)) {
      left = withEdges(left, { source, sink }, edges.filter(isSocket));
    }
  }
  const replaced = rdma.reduce(addConnection, left);
  return isSame(edgesOf(replaced, source), edgesOf(connections, source)) ? connections : replaced;
}

/** The connections without RDMA from or to a node. */
export function removeAllRdmaTouching(connections: Connections, nodeId: NodeId): Connections {
  let left = replaceAllOutRdma(connections, nodeId, []);
  for (const [source, sinks] of left) {
    const edges = sinks.get(nodeId);
    if (!edges || edges.every(isSocket)) continue;
    left = withEdges(left, { source, sink: nodeId }, edges.filter(isSocket));
  }
  return left;
}

/** All edges of a source as plain data. */
function edgesOf(connections: Connections, source: NodeId): unknown {
  return [...connections.get(source) ?? []];
}

function isSocket(edge: Edge): boolean {
  return edge.type === "SocketConnection";
}

function withEdges(
  connections: Connections,
  { source, sink }: Pick<Connection, "source" | "sink">,
  edges: readonly Edge[],
): Connections {
  const sinks = connections.get(source) ?? new Map<NodeId, readonly Edge[]>();
  return withSinks(
    connections,
    source,
    edges.length === 0 ? drop(sinks, sink) : put(sinks, sink, edges),
  );
}

function withSinks(
  connections: Connections,
  source: NodeId,
  sinks: ReadonlyMap<NodeId, readonly Edge[]>,
): Connections {
  return sinks.size === 0 ? drop(connections, source) : put(connections, source, sinks);
}
