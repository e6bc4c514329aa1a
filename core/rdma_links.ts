import type { RdmaConnection } from "./connection.ts";
import type { Network } from "./addresses.ts";
import type { NodeId } from "./ids.ts";
import { linkKey } from "./telemetry.ts";
import { edgesBetween } from "./topology.ts";

/** The devices at the two ends of a cable. */
export interface RdmaLink {
  readonly sourceIface: string;
  readonly sinkIface: string;
}

/**
 * The cable for two nodes: one that both of them tell of, so that each end sends where the other
 * receives; of several the fastest, then the newest. Both ends find the same one.
 */
export function rdmaLink(network: Network, source: NodeId, sink: NodeId): RdmaLink | undefined {
  if (source > sink) {
    const link = rdmaLink(network, sink, source);
    return link && { sourceIface: link.sinkIface, sinkIface: link.sourceIface };
  }
  const back = rdmaEdges(network, sink, source);
  let best: { edge: RdmaConnection; bandwidth: number } | undefined;
  for (const edge of rdmaEdges(network, source, sink)) {
    if (!back.some((other) => isSameCable(edge, other))) continue;
    const bandwidth = network.links.get(linkKey(source, sink, edge))?.bandwidthBitsPerSecond ?? 0;
    if (!best || bandwidth >= best.bandwidth) best = { edge, bandwidth };
  }
  return best && { sourceIface: best.edge.sourceRdmaIface, sinkIface: best.edge.sinkRdmaIface };
}

/** The device of the row's node on its cable to the column's; undefined without all cables. */
export function deviceMatrix(
  network: Network,
  nodeIds: readonly NodeId[],
): (string | null)[][] | undefined {
  const rows = nodeIds.map((source) =>
    nodeIds.map((sink) => source === sink ? null : rdmaLink(network, source, sink)?.sourceIface)
  );
  const complete = rows.map((row) => row.filter((cell) => cell !== undefined));
  return complete.every((row) => row.length === nodeIds.length) ? complete : undefined;
}

function rdmaEdges({ connections }: Network, source: NodeId, sink: NodeId): RdmaConnection[] {
  return edgesBetween(connections, source, sink).filter((edge) => edge.type === "RdmaConnection");
}

function isSameCable(there: RdmaConnection, back: RdmaConnection): boolean {
  return there.sourceRdmaIface === back.sinkRdmaIface &&
    there.sinkRdmaIface === back.sourceRdmaIface;
}
