import { addressesTo, type LinkType, type Network, ringHop } from "./addresses.ts";
import type { Graph } from "./block_search.ts";
import type { NodeId } from "./ids.ts";
import type { InstanceMeta } from "./instance.ts";
import { rdmaLink } from "./rdma_links.ts";
import { edgesBetween } from "./topology.ts";

/** One way over each kind of link, in seconds, where nobody has measured. */
const HOP_SECONDS: Readonly<Record<LinkType, number>> = {
  loopback: 0.000_05,
  thunderbolt: 0.000_15,
  maybe_ethernet: 0.000_2,
  ethernet: 0.000_25,
  wifi: 0.002,
  unknown: 0.000_5,
};

/** Likewise over RDMA. */
const RDMA_HOP_SECONDS = 0.000_01;

/** Who reaches whom, each made once when it is first asked for. */
export interface Graphs {
  /** By the links that the ranks will talk over. */
  strict(): Graph;
  /** By any edge. */
  any(): Graph;
}

/** The graphs of some nodes, by the places at which they are given. */
export function graphsOf(
  network: Network,
  nodeIds: readonly NodeId[],
  meta: InstanceMeta,
): Graphs {
  const made: { strict?: Graph; any?: Graph } = {};
  const make = (isLinked: LinkTest) => graphOf({ network, nodeIds, meta, isLinked });
  const { connections } = network;
  const hasEdge: LinkTest = (a, b) => edgesBetween(connections, a, b).length > 0;
  const hasLink: LinkTest = meta === "MlxJaccl"
    ? (a, b) => rdmaLink(network, a, b) !== undefined
    : (a, b) => addressesTo(network, a, b).length > 0;
  return {
    strict: () => made.strict ??= make(hasLink),
    any: () => made.any ??= make(hasEdge),
  };
}

type LinkTest = (source: NodeId, sink: NodeId) => boolean;

function graphOf(
  { network, nodeIds, meta, isLinked }: {
    network: Network;
    nodeIds: readonly NodeId[];
    meta: InstanceMeta;
    isLinked: LinkTest;
  },
): Graph {
  const count = nodeIds.length;
  const places = new Map(nodeIds.map((nodeId, at) => [nodeId, at]));
  const matrix = new Uint8Array(count * count);
  const sources = nodeIds.map((): number[] => []);
  const sinks = nodeIds.map((nodeId, source) => {
    const reached = [...network.connections.get(nodeId)?.keys() ?? []]
      .filter((sink) => places.has(sink) && sink !== nodeId && isLinked(nodeId, sink))
      .map((sink) => places.get(sink) as number);
    for (const sink of reached) {
      matrix[source * count + sink] = 1;
      sources[sink]?.push(source);
    }
    return reached.sort((a, b) => a - b);
  });
  const seconds = new Float64Array(count * count).fill(-1);
  return {
    count,
    sinks,
    sources,
    reaches: (source, sink) => matrix[source * count + sink] === 1,
    hopSeconds: (source, sink) => {
      const at = source * count + sink;
      if (seconds[at] === -1) {
        const [from, to] = [nodeIds[source] as NodeId, nodeIds[sink] as NodeId];
        seconds[at] = meta === "MlxJaccl" ? RDMA_HOP_SECONDS : hopSeconds(network, from, to);
      }
      return seconds[at] as number;
    },
  };
}

function hopSeconds(network: Network, source: NodeId, sink: NodeId): number {
  const { latencyMs, type = "unknown" } = ringHop(network, source, sink) ?? {};
  return latencyMs === undefined ? HOP_SECONDS[type] : latencyMs / 2 / 1_000;
}
