import { z } from "zod";
import type { Connection, Edge } from "./connection.ts";
import { edgeKey, isSameEdge } from "./connection.ts";
import type { ErrorInfo } from "./errors.ts";
import { NodeId } from "./ids.ts";
import { firstIssue } from "./issues.ts";
import { Backend } from "./model_card.ts";
import { parseMultiaddr } from "./multiaddr.ts";
import type { InterfaceType, NetworkInterface, NodeState } from "./node_info.ts";
import { NODES_MAX } from "./placement_request.ts";
import { LIBP2P_PORT } from "./ports.ts";
import { EMPTY_STATE, type State } from "./state.ts";
import { linkKey, type LinkQuality, NO_TELEMETRY, type Telemetry } from "./telemetry.ts";

/** Most links that a topology may name. */
export const LINKS_MAX = 262_144;

/** Backends of a node that does not tell: whatever the model asks for. */
const ANY_BACKEND: readonly Backend[] = ["MlxMetal", "MlxCuda", "MlxCpu"];

/** The device of a cable whose ends are not named. */
const UNNAMED_DEVICE = "rdma_unnamed";

const bytes = z.number().int().min(0);
const iface = z.string().min(1).max(60).optional();

const FileNode = z.strictObject({
  id: NodeId,
  friendlyName: z.string().optional(),
  memoryAvailableBytes: bytes,
  backends: z.array(Backend).min(1).optional(),
  memoryBandwidthBytesPerSecond: z.number().positive().optional(),
});
type FileNode = z.infer<typeof FileNode>;

const FileLink = z.strictObject({
  source: NodeId,
  sink: NodeId,
  /** An IP address, `ip:port` or a multiaddr; a cable for RDMA needs none. */
  address: z.string().min(1).max(500).optional(),
  kind: z.enum(["socket", "rdma"]),
  bandwidthBitsPerSecond: z.number().positive().optional(),
  /** One round trip. */
  latencyMs: z.number().min(0).optional(),
  sourceIface: iface,
  sinkIface: iface,
});
type FileLink = z.infer<typeof FileLink>;

/** A cluster on paper: what `exo place --topology FILE` reads. */
export const TopologyFile = z.strictObject({
  nodes: z.array(FileNode).min(1).max(NODES_MAX),
  links: z.array(FileLink).max(LINKS_MAX).default([]),
});
export type TopologyFile = z.infer<typeof TopologyFile>;

/** A cluster on paper as placement takes it, or what is wrong with it. */
export type TopologyRead =
  | { readonly ok: true; readonly state: State; readonly telemetry: Telemetry }
  | { readonly ok: false; readonly error: ErrorInfo };

/**
 * The cluster that a topology file describes. A socket link leads one way, as given; a cable for
 * RDMA leads both ways, and its nodes have RDMA switched on.
 */
export function stateOfTopologyFile(json: unknown): TopologyRead {
  const parsed = TopologyFile.safeParse(json);
  if (!parsed.success) {
    const { param, found, needed } = firstIssue(parsed.error, json);
    const where = param === "" ? "" : ` as ${param}`;
    return refuse(param, `found ${found}${where}, ${needed} needed`);
  }
  const { nodes, links } = parsed.data;
  const seen = new Set<NodeId>();
  for (const [at, { id }] of nodes.entries()) {
    if (seen.has(id)) return refuse(`nodes.${at}.id`, `found node ${id} twice, each once needed`);
    seen.add(id);
  }
  const read: LinkRead[] = [];
  for (const [at, link] of links.entries()) {
    const one = readLink(link, seen);
    if (typeof one === "string") return refuse(`links.${at}`, `link ${at}: ${one}`);
    read.push(...one);
  }
  const contradiction = contradictionOf(read);
  if (contradiction !== undefined) return refuse("links", contradiction);
  return { ok: true, ...clusterOf(nodes, read) };
}

function refuse(param: string, found: string): TopologyRead {
  const message = `Cannot read the topology: ${found}`;
  const hint = "exo place --help shows what a topology file holds";
  return { ok: false, error: { code: "invalid_request", message, hint, param } };
}

/** A link as an edge, one way. */
interface LinkRead extends Connection {
  readonly link: FileLink;
  /** The sink's address and interface, of a socket. */
  readonly sinkIp?: string;
}

/** A link as edges, or what is wrong with it. */
function readLink(link: FileLink, nodes: ReadonlySet<NodeId>): LinkRead[] | string {
  const { source, sink, address, kind } = link;
  const unknown = [source, sink].find((id) => !nodes.has(id));
  if (unknown !== undefined) return `found node ${unknown}, one of nodes needed`;
  if (source === sink) return `found node ${source} at both ends, two nodes needed`;
  if (kind === "rdma") {
    const [a, b] = [link.sourceIface ?? UNNAMED_DEVICE, link.sinkIface ?? UNNAMED_DEVICE];
    return [
      { source, sink, edge: cable(a, b), link },
      { source: sink, sink: source, edge: cable(b, a), link },
    ];
  }
  if (address === undefined) return "found no address, that of the sink needed";
  const sinkMultiaddr = multiaddrOf(address);
  const parsed = parseMultiaddr(sinkMultiaddr);
  if (!parsed) {
    return `found address "${address}", such as 10.0.0.2 or /ip4/10.0.0.2/tcp/52414 needed`;
  }
  return [{
    source,
    sink,
    edge: { type: "SocketConnection", sinkMultiaddr },
    link,
    sinkIp: parsed.host,
  }];
}

function cable(sourceRdmaIface: string, sinkRdmaIface: string): Edge {
  return { type: "RdmaConnection", sourceRdmaIface, sinkRdmaIface };
}

/** An address in any of its spellings as a multiaddr; what is none stays as it is. */
function multiaddrOf(address: string): string {
  if (address.startsWith("/")) return address;
  const { bracketed, plain, port = LIBP2P_PORT } =
    /^(?:\[(?<bracketed>[^\]]*)\]|(?<plain>[^:]*))(?::(?<port>\d+))?$/.exec(address)?.groups ?? {};
  if (bracketed !== undefined) return `/ip6/${bracketed}/tcp/${port}`;
  if (plain === undefined) return `/ip6/${address}/tcp/${port}`;
  return /^[\d.]+$/.test(plain) ? `/ip4/${plain}/tcp/${port}` : `/dns/${plain}/tcp/${port}`;
}

/** Two links that cannot both be. */
function contradictionOf(links: readonly LinkRead[]): string | undefined {
  const edges = new Map<string, FileLink>();
  const interfaces = new Map<string, string>();
  for (const { source, sink, edge, link, sinkIp } of links) {
    const key = linkKey(source, sink, edge);
    const other = edges.get(key);
    if (other && !isSameCable(other, link)) {
      return `found the link from ${source} to ${sink} (${edgeKey(edge)}) twice, each once needed`;
    }
    edges.set(key, link);
    if (sinkIp === undefined || link.sinkIface === undefined) continue;
    const known = interfaces.get(`${sink} ${sinkIp}`) ?? link.sinkIface;
    if (known !== link.sinkIface) {
      return `found ${sinkIp} of ${sink} on ${known} and on ${link.sinkIface}, one interface needed`;
    }
    interfaces.set(`${sink} ${sinkIp}`, known);
  }
  return undefined;
}

/** A cable may be named from both of its ends, if they agree. */
function isSameCable(a: FileLink, b: FileLink): boolean {
  return a.kind === "rdma" && a.source === b.sink &&
    a.bandwidthBitsPerSecond === b.bandwidthBitsPerSecond && a.latencyMs === b.latencyMs;
}

function clusterOf(
  nodes: readonly FileNode[],
  links: readonly LinkRead[],
): { state: State; telemetry: Telemetry } {
  const qualities = new Map<string, LinkQuality>();
  const connections = new Map<NodeId, Map<NodeId, Edge[]>>();
  for (const { source, sink, edge, link } of links) {
    const sinks = entry(connections, source, () => new Map<NodeId, Edge[]>());
    const edges = entry(sinks, sink, () => []);
    // A cable that is named from both ends is one.
    if (!edges.some((other) => isSameEdge(other, edge))) edges.push(edge);
    const { bandwidthBitsPerSecond, latencyMs } = link;
    if (bandwidthBitsPerSecond === undefined && latencyMs === undefined) continue;
    qualities.set(linkKey(source, sink, edge), { bandwidthBitsPerSecond, latencyMs });
  }
  const ends = new Map<NodeId, Ends>();
  for (const link of links) {
    entry(ends, link.source, () => ({ out: [], into: [] })).out.push(link);
    entry(ends, link.sink, () => ({ out: [], into: [] })).into.push(link);
  }
  const states = nodes.map((node) => [node.id, nodeOf(node, ends.get(node.id))] as const);
  const memory = nodes.map(({ id, memoryAvailableBytes: ramAvailableBytes }) =>
    [id, { ramTotalBytes: ramAvailableBytes, ramAvailableBytes }] as const
  );
  return {
    state: { ...EMPTY_STATE, nodes: new Map(states), connections },
    telemetry: { ...NO_TELEMETRY, memory: new Map(memory), links: qualities },
  };
}

/** The links of a node, by direction. */
interface Ends {
  readonly out: LinkRead[];
  readonly into: LinkRead[];
}

/** The value of a key, made where there is none. */
function entry<K, V>(table: Map<K, V>, key: NoInfer<K>, make: () => NoInfer<V>): V {
  const value = table.get(key) ?? make();
  table.set(key, value);
  return value;
}

function nodeOf(node: FileNode, ends: Ends = { out: [], into: [] }): NodeState {
  const { id, friendlyName = id, backends = ANY_BACKEND, memoryBandwidthBytesPerSecond } = node;
  const measured = memoryBandwidthBytesPerSecond;
  return {
    incarnation: 0,
    info: {
      friendlyName,
      machineModel: "Unknown",
      chipId: "Unknown",
      osVersion: "Unknown",
      osBuildVersion: "Unknown",
      exoVersion: "Unknown",
      backends: [...backends],
      ...(measured === undefined ? {} : { memoryBandwidthBytesPerSecond: measured }),
    },
    network: interfacesOf(ends),
    thunderbolt: [],
    rdmaCtlEnabled: ends.out.some(({ link }) => link.kind === "rdma"),
  };
}

/** The addresses at which others reach a node; interfaces as named by either end. */
function interfacesOf({ out, into }: Ends): NetworkInterface[] {
  const devices = new Set(
    out.flatMap(({ edge }) => edge.type === "RdmaConnection" ? [edge.sourceRdmaIface] : []),
  );
  const outward = new Map(
    out.flatMap(({ sink, link, sinkIp }) =>
      sinkIp === undefined ? [] : [[sink, link.sourceIface] as const]
    ),
  );
  const found = new Map<string, NetworkInterface>();
  for (const { source, sinkIp, link } of into) {
    if (sinkIp === undefined) continue;
    const name = link.sinkIface ?? outward.get(source) ?? "unknown";
    const known = found.get(sinkIp)?.interfaceType ?? "unknown";
    const interfaceType = devices.has(`rdma_${name}`) ? "thunderbolt" : typeOfName(name);
    if (known === "unknown") found.set(sinkIp, { name, ipAddress: sinkIp, interfaceType });
  }
  return [...found.values()];
}

/** What interfaces are called on macOS and Linux. */
const NAMES: readonly (readonly [RegExp, InterfaceType])[] = [
  [/thunderbolt|^tb\d|^bridge\d/i, "thunderbolt"],
  [/^wl|wi-?fi/i, "wifi"],
  [/^eth|^en[opsx]|ethernet/i, "ethernet"],
  [/^en\d/, "maybe_ethernet"],
];

function typeOfName(name: string): InterfaceType {
  return NAMES.find(([pattern]) => pattern.test(name))?.[1] ?? "unknown";
}
