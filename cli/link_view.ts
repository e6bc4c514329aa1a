import { z } from "zod";
import type { EdgeView, StateView } from "../api/client.ts";
import { parseMultiaddr } from "../core/multiaddr.ts";

/** Most remarks about links that are missing; the rest is counted. */
const REMARKS_MAX = 8;

/** One way between two nodes, as `exo status` tells of it. */
export const LinkView = z.strictObject({
  source: z.string().describe("Node that reaches the other"),
  sink: z.string().describe("Node that is reached"),
  kind: z.enum(["socket", "rdma"]).describe("Over the network, or a cable between RDMA devices"),
  address: z.string().describe("Where the sink is reached: a multiaddr, or both RDMA devices"),
  isOneWay: z.boolean().describe("Whether the sink has no way of this kind back to the source"),
  bandwidthBitsPerSecond: z.number().optional().describe("As last measured"),
  latencyMs: z.number().optional().describe("Of one round trip, as last measured"),
});
export type LinkView = z.infer<typeof LinkView>;

/** All links of a cluster, those of a pair of nodes together. */
export function linksOf({ topology }: Pick<StateView, "topology">): LinkView[] {
  const links = Object.entries(topology.connections).flatMap(([source, sinks]) =>
    Object.entries(sinks).flatMap(([sink, edges]) =>
      edges.map((edge) => ({ source, sink, ...linkOf(edge) }))
    )
  );
  const ways = new Set(links.map(wayOf));
  return links.map((link) => {
    const isOneWay = !ways.has(wayOf({ ...link, source: link.sink, sink: link.source }));
    return { ...link, isOneWay };
  });
}

function wayOf({ source, sink, kind }: Pick<LinkView, "source" | "sink" | "kind">): string {
  return JSON.stringify([source, sink, kind]);
}

function linkOf({ sinkMultiaddr, sourceRdmaIface, sinkRdmaIface, ...quality }: EdgeView) {
  const { bandwidthBitsPerSecond, latencyMs } = quality;
  const measured = {
    ...(bandwidthBitsPerSecond === undefined ? {} : { bandwidthBitsPerSecond }),
    ...(latencyMs === undefined ? {} : { latencyMs }),
  };
  return sinkMultiaddr
    ? { kind: "socket" as const, address: sinkMultiaddr.address, ...measured }
    : { kind: "rdma" as const, address: `${sourceRdmaIface} > ${sinkRdmaIface}`, ...measured };
}

/** The columns of `linkCells`. */
export const LINK_HEAD = ["FROM", "TO", "KIND", "ADDRESS", "BANDWIDTH", "ROUND TRIP"];

/** A link as a row of a table; `names` are what people call the nodes. */
export function linkCells(link: LinkView, names: ReadonlyMap<string, string>): string[] {
  const { source, sink, kind, isOneWay, address, bandwidthBitsPerSecond, latencyMs } = link;
  return [
    names.get(source) ?? source,
    names.get(sink) ?? sink,
    isOneWay ? `${kind}, one way` : kind,
    address,
    bandwidthBitsPerSecond === undefined ? "-" : formatBits(bandwidthBitsPerSecond),
    latencyMs === undefined ? "-" : `${latencyMs.toFixed(1)} ms`,
  ];
}

/** A speed in decimal units, as those of links are told. */
function formatBits(bitsPerSecond: number): string {
  return bitsPerSecond >= 1e9
    ? `${(bitsPerSecond / 1e9).toFixed(1)} Gbit/s`
    : `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
}

/** What is wrong with how nodes reach each other, and where to look; empty when all do. */
export function linkRemarks(
  links: readonly LinkView[],
  names: ReadonlyMap<string, string>,
): string[] {
  const sockets = links.filter(({ kind }) => kind === "socket");
  const ways = new Set(sockets.map(({ source, sink }) => JSON.stringify([source, sink])));
  const reaches = (source: string, sink: string) => ways.has(JSON.stringify([source, sink]));
  const linked = new Set(sockets.flatMap(({ source, sink }) => [source, sink]));
  // Where there is no link at all nobody stands out.
  const alone = [...names].filter(([id]) => linked.size > 0 && !linked.has(id));
  const nodes = [...names].filter(([id]) => linked.size === 0 || linked.has(id));
  const pairs = nodes.flatMap(([a, nameA], at) =>
    nodes.slice(at + 1).flatMap(([b, nameB]) => {
      const [there, back] = [reaches(a, b), reaches(b, a)];
      if (there && back) return [];
      if (there) return [oneWay(nameA, nameB, portOf(sockets, a))];
      if (back) return [oneWay(nameB, nameA, portOf(sockets, b))];
      return [
        `${nameA} and ${nameB} do not reach each other: no model can be divided between them`,
      ];
    })
  );
  const remarks = [
    ...alone.map(([, name]) => `${name} has no link: it has stopped, or its network is cut`),
    ...pairs,
  ];
  const rest = remarks.length - REMARKS_MAX;
  return rest > 0 ? [...remarks.slice(0, REMARKS_MAX), `and ${rest} more such remarks`] : remarks;
}

/** Who is not reached keeps others out: the way from it is open. */
function oneWay(from: string, to: string, port: number | undefined): string {
  const kept = port === undefined ? "TCP to its --libp2p-port" : `TCP port ${port}`;
  return `${from} reaches ${to}, ${to} does not reach ${from}: look for a firewall on ${from} ` +
    `that keeps out ${kept}`;
}

/** Where others reach a node; undefined when nobody does. */
function portOf(links: readonly LinkView[], nodeId: string): number | undefined {
  const link = links.find(({ sink }) => sink === nodeId);
  return link && parseMultiaddr(link.address)?.port;
}
