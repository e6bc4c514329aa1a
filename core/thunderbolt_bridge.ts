import type { Edge } from "./connection.ts";
import type { NodeId } from "./ids.ts";
import { parseMultiaddr } from "./multiaddr.ts";
import type { NodeState } from "./node_info.ts";
import type { State } from "./state.ts";

/** Most rings that are told: one is enough to mend the network. */
export const BRIDGE_CYCLES_MAX = 64;

/** Most steps that the search takes; a dense network has more ways than anybody could walk. */
const SEARCH_STEPS_MAX = 20_000;

/**
 * Rings of nodes that bridge their Thunderbolt ports: a broadcast goes round in them for ever. Each
 * is told once, from its first node on, as far as the limits of the search reach.
 */
export function thunderboltBridgeCycles({ nodes, connections }: State): NodeId[][] {
  const bridging = [...nodes].filter(([, { thunderboltBridge }]) => thunderboltBridge?.enabled);
  const ids = bridging.map(([nodeId]) => nodeId);
  const addresses = new Set(bridging.flatMap(([, node]) => thunderboltIps(node)));
  const isCable = (edge: Edge) =>
    edge.type === "RdmaConnection" ||
    addresses.has(parseMultiaddr(edge.sinkMultiaddr)?.host ?? "");
  const next = ids.map((nodeId) =>
    [...connections.get(nodeId) ?? []]
      .filter(([, edges]) => edges.some(isCable))
      .map(([sink]) => ids.indexOf(sink))
      .filter((sink) => sink >= 0)
  );
  return cyclesOf(next).map((cycle) => cycle.map((at) => ids[at] as NodeId));
}

function thunderboltIps({ network }: NodeState): string[] {
  return network.filter(({ interfaceType }) => interfaceType === "thunderbolt")
    .map(({ ipAddress }) => ipAddress);
}

/** Simple cycles over what follows what, each found from its lowest number. */
function cyclesOf(next: readonly (readonly number[])[]): number[][] {
  const cycles: number[][] = [];
  let steps = 0;
  const walk = (path: readonly number[], root: number, sinks: readonly number[]): void => {
    for (const sink of sinks) {
      if (cycles.length >= BRIDGE_CYCLES_MAX || ++steps > SEARCH_STEPS_MAX) return;
      if (sink === root) cycles.push([...path]);
      else if (sink > root && !path.includes(sink)) {
        walk([...path, sink], root, next[sink] as number[]);
      }
    }
  };
  for (const [root, sinks] of next.entries()) walk([root], root, sinks);
  return cycles;
}
