import type { Edge } from "./connection.ts";
import { ipOf } from "./edge_ip.ts";
import type { NodeId } from "./ids.ts";
import type { State } from "./state.ts";

/** Most rings that are told: one is enough to mend the network. */
export const BRIDGE_CYCLES_MAX = 64;

/** Most steps that the search takes; a dense network has more ways than anybody could walk. */
const SEARCH_STEPS_MAX = 20_000;

/**
 * Rings of nodes that bridge their Thunderbolt ports: a broadcast goes round in them for ever. Each
 * is told once, from its first node on, as far as the limits of the search reach.
 */
export function thunderboltBridgeCycles(state: State): NodeId[][] {
  const bridging = [...state.nodes].flatMap(([nodeId, { thunderboltBridge }]) =>
    thunderboltBridge?.enabled ? [nodeId] : []
  );
  const rank = new Map(bridging.map((nodeId, at) => [nodeId, at]));
  const addresses = new Set(bridging.flatMap((nodeId) => thunderboltIps(state, nodeId)));
  const isCable = (edge: Edge) => edge.type === "RdmaConnection" || addresses.has(ipOf(edge) ?? "");
  const next = new Map(bridging.map((nodeId) => {
    const sinks = [...state.connections.get(nodeId) ?? []]
      .filter(([sink, edges]) => rank.has(sink) && edges.some(isCable));
    return [nodeId, sinks.map(([sink]) => sink)];
  }));
  return cyclesOf(next, rank);
}

function thunderboltIps(state: State, nodeId: NodeId): string[] {
  const { network = [] } = state.nodes.get(nodeId) ?? {};
  return network.filter(({ interfaceType }) => interfaceType === "thunderbolt")
    .map(({ ipAddress }) => ipAddress);
}

/** Simple cycles, each found from its node of the lowest rank. */
function cyclesOf(
  next: ReadonlyMap<NodeId, readonly NodeId[]>,
  rank: ReadonlyMap<NodeId, number>,
): NodeId[][] {
  const cycles: NodeId[][] = [];
  let steps = 0;
  const isLater = (a: NodeId, b: NodeId) => (rank.get(a) ?? 0) > (rank.get(b) ?? 0);
  const walk = (path: readonly NodeId[], root: NodeId, at: NodeId): void => {
    for (const sink of next.get(at) ?? []) {
      if (cycles.length >= BRIDGE_CYCLES_MAX || ++steps > SEARCH_STEPS_MAX) return;
      if (sink === root) cycles.push([...path]);
      else if (isLater(sink, root) && !path.includes(sink)) walk([...path, sink], root, sink);
    }
  };
  for (const root of next.keys()) walk([root], root, root);
  return cycles;
}
