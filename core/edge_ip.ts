import type { Edge } from "./connection.ts";
import type { NodeId } from "./ids.ts";
import type { InterfaceType } from "./node_info.ts";
import type { State } from "./state.ts";
import { edgesBetween } from "./topology.ts";

/** Which ways a ring prefers: the lowest first. */
const RING_PRIORITY: Readonly<Record<InterfaceType, number>> = {
  thunderbolt: 0,
  maybe_ethernet: 1,
  ethernet: 2,
  wifi: 3,
  unknown: 4,
};

/** The address that a socket edge leads to; undefined for a name or a cable. */
export function ipOf(edge: Edge): string | undefined {
  if (edge.type !== "SocketConnection") return undefined;
  return /^\/ip[46]\/([^/]+)/.exec(edge.sinkMultiaddr)?.[1];
}

/** What an address of a node is made of, as far as the node has said. */
export function interfaceTypeOf(state: State, nodeId: NodeId, ip: string): InterfaceType {
  const found = state.nodes.get(nodeId)?.network.find(({ ipAddress }) => ipAddress === ip);
  return found?.interfaceType ?? "unknown";
}

/** The best address by which a node reaches another; the newest of equals. */
export function ringIp(state: State, from: NodeId, to: NodeId): string | undefined {
  const priority = (ip: string) => RING_PRIORITY[interfaceTypeOf(state, to, ip)];
  return edgesBetween(state.connections, from, to)
    .flatMap((edge) => ipOf(edge) ?? [])
    .toReversed()
    .toSorted((a, b) => priority(a) - priority(b))[0];
}

/** `ip:port`, with brackets around IPv6. */
export function endpointOf(ip: string, port: number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}
