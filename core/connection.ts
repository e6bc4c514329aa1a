import { z } from "zod";
import { NodeId } from "./ids.ts";

/** The sink can be reached at this address of its: its libp2p address (design D13). */
export const SocketConnection = z.object({
  type: z.literal("SocketConnection"),
  /** A multiaddr: `/ip4/10.0.0.1/tcp/52414`. */
  sinkMultiaddr: z.string().min(1).max(512),
});
export type SocketConnection = z.infer<typeof SocketConnection>;

/** A cable between two RDMA devices. */
export const RdmaConnection = z.object({
  type: z.literal("RdmaConnection"),
  sourceRdmaIface: z.string().min(1).max(64),
  sinkRdmaIface: z.string().min(1).max(64),
});
export type RdmaConnection = z.infer<typeof RdmaConnection>;

/** One way from a node to another. */
export const Edge = z.discriminatedUnion("type", [SocketConnection, RdmaConnection]);
export type Edge = z.infer<typeof Edge>;

/** A directed edge of the topology. */
export const Connection = z.object({ source: NodeId, sink: NodeId, edge: Edge });
export type Connection = z.infer<typeof Connection>;

/** Source to sink to its edges, the oldest first. */
export type Connections = ReadonlyMap<NodeId, ReadonlyMap<NodeId, readonly Edge[]>>;

/** Whether two edges are the same way. */
export function isSameEdge(a: Edge, b: Edge): boolean {
  return edgeKey(a) === edgeKey(b);
}

/** One name for each way from one node to another. */
export function edgeKey(edge: Edge): string {
  return edge.type === "SocketConnection"
    ? edge.sinkMultiaddr
    : `rdma:${edge.sourceRdmaIface}>${edge.sinkRdmaIface}`;
}
