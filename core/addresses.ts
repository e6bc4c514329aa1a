import type { Edge } from "./connection.ts";
import type { NodeId } from "./ids.ts";
import { parseMultiaddr } from "./multiaddr.ts";
import type { InterfaceType } from "./node_info.ts";
import type { State } from "./state.ts";
import { linkKey, type LinkQuality, type Telemetry } from "./telemetry.ts";
import { edgesBetween } from "./topology.ts";

/** What an address is reached over. */
export type LinkType = InterfaceType | "loopback";

/** Addresses of the nodes, as far as nodes have reported them. */
export interface Network {
  readonly connections: State["connections"];
  readonly links: Telemetry["links"];
  /** What interface each address of a node belongs to. */
  readonly types: ReadonlyMap<NodeId, ReadonlyMap<string, InterfaceType>>;
  /** The IP addresses that multiaddrs hold, as far as they have been read. */
  readonly ips: Map<string, string | undefined>;
}

/** One address at which a node is reached. */
export interface Address {
  readonly ip: string;
  readonly type: LinkType;
  readonly quality: LinkQuality | undefined;
}

/** Over what two neighbours of a ring talk; the address of the source is known if it is reached. */
export interface Hop {
  readonly sourceIp: string | undefined;
  readonly sinkIp: string;
  readonly type: LinkType;
  /** One round trip, measured; absent where nobody has. */
  readonly latencyMs: number | undefined;
}

/** A hop whose both ends are known. */
type Pair = Hop & { readonly sourceIp: string };

/** Rings take the fastest link (spec §3.6). */
const RING_ORDER: readonly LinkType[] = [
  "loopback",
  "thunderbolt",
  "maybe_ethernet",
  "ethernet",
  "wifi",
  "unknown",
];

/** The coordinator of RDMA keeps off the cables that RDMA uses. */
const COORDINATOR_ORDER: readonly LinkType[] = [
  "loopback",
  "ethernet",
  "wifi",
  "unknown",
  "maybe_ethernet",
  "thunderbolt",
];

const LOOPBACK = /^127\.|^::1$/;
const UNSPECIFIED = /^(?:0\.0\.0\.0|::)$/;

/** The addresses of a cluster. */
export function networkOf(state: State, { links }: Pick<Telemetry, "links">): Network {
  const types = new Map([...state.nodes].map(([nodeId, { network }]) => {
    const known = network.map(({ ipAddress, interfaceType }) =>
      [ipAddress, interfaceType] as const
    );
    return [nodeId, new Map(known)] as const;
  }));
  return { connections: state.connections, links, types, ips: new Map() };
}

/**
 * The addresses at which `source` reaches `sink`, the oldest first. Loopback never links two
 * hosts, whoever claims so.
 */
export function addressesTo(network: Network, source: NodeId, sink: NodeId): Address[] {
  const { links, types } = network;
  const addresses: Address[] = [];
  for (const edge of edgesBetween(network.connections, source, sink)) {
    const ip = ipOf(network, edge);
    if (ip === undefined) continue;
    const isLoopback = LOOPBACK.test(ip);
    if (isLoopback && !isOneHost(network, source, sink)) continue;
    const type = isLoopback ? "loopback" : types.get(sink)?.get(ip) ?? "unknown";
    const quality = links.size === 0 ? undefined : links.get(linkKey(source, sink, edge));
    addresses.push({ ip, type, quality });
  }
  return addresses;
}

/** Each multiaddr is read once: a node has the same ones for all. */
function ipOf({ ips }: Network, edge: Edge): string | undefined {
  if (edge.type !== "SocketConnection") return undefined;
  const { sinkMultiaddr } = edge;
  if (!ips.has(sinkMultiaddr)) {
    const { addressType, host = "" } = parseMultiaddr(sinkMultiaddr) ?? {};
    const isUsable = addressType?.startsWith("ip") && !UNSPECIFIED.test(host);
    ips.set(sinkMultiaddr, isUsable ? host : undefined);
  }
  return ips.get(sinkMultiaddr);
}

/** Nodes of one host have addresses in common, or none at all. */
function isOneHost(network: Network, a: NodeId, b: NodeId): boolean {
  const [ofA, ofB] = [hostIps(network, a), hostIps(network, b)];
  return ofA.some((ip) => ofB.includes(ip)) || (ofA.length === 0 && ofB.length === 0);
}

function hostIps({ types }: Network, nodeId: NodeId): string[] {
  return [...types.get(nodeId)?.keys() ?? []].filter((ip) => !LOOPBACK.test(ip));
}

/**
 * The link over which `source` reaches `sink` in a ring; undefined where it does not. Where each
 * reaches the other, both ends find the same pair of addresses, whoever asks: the worse of their
 * two ends is the best, then those that lie on one network, then the faster, then the newer.
 */
export function ringHop(network: Network, source: NodeId, sink: NodeId): Hop | undefined {
  const isForward = source < sink;
  const pair = isForward ? bestPair(network, source, sink) : bestPair(network, sink, source);
  if (!pair) return oneWay(addressesTo(network, source, sink));
  return isForward ? pair : { ...pair, sourceIp: pair.sinkIp, sinkIp: pair.sourceIp };
}

/** Over what each node of a ring hears the one before it; undefined where some do not. */
export function ringHops(network: Network, nodeIds: readonly NodeId[]): Hop[] | undefined {
  const hops = nodeIds.map((id, rank) => ringHop(network, nodeIds.at(rank - 1) as NodeId, id));
  const known = hops.filter((hop) => hop !== undefined);
  return known.length === hops.length ? known : undefined;
}

/** Neighbours in a ring of these nodes, the first of which does not reach the second. */
export function ringGaps(
  network: Network,
  nodeIds: readonly NodeId[],
): (readonly [NodeId, NodeId])[] {
  return nodeIds.map((id, rank) => [id, nodeIds[(rank + 1) % nodeIds.length] as NodeId] as const)
    .filter(([id, next]) => !ringHop(network, id, next));
}

function bestPair(network: Network, source: NodeId, sink: NodeId): Pair | undefined {
  const [there, back] = [addressesTo(network, source, sink), addressesTo(network, sink, source)];
  const all = there.flatMap((to, newness) =>
    back.map((from, age) => ({ to, from, newness: newness + age }))
  );
  const pairs = all.filter(({ to, from }) => isSameKind(to, from));
  const best = pairs.length === 1 ? pairs[0] : least(pairs.map(priced));
  if (!best) return undefined;
  const { to, from } = best;
  const latencies = [to, from].flatMap(({ quality }) => quality?.latencyMs ?? []);
  return {
    sourceIp: from.ip,
    sinkIp: to.ip,
    type: ringCost(to.type) > ringCost(from.type) ? to.type : from.type,
    latencyMs: latencies.length === 0 ? undefined : Math.max(...latencies),
  };
}

/** A pair with what it is compared by. */
function priced<T extends { to: Address; from: Address; newness: number }>(pair: T) {
  return { ...pair, cost: pairCost(pair.to, pair.from, pair.newness) };
}

/** A rank of a ring connects to its right only: the way back is not needed. */
function oneWay(there: readonly Address[]): Hop | undefined {
  const best = least(there.map((to, newness) => ({ to, cost: pairCost(to, to, newness) })));
  if (!best) return undefined;
  const { ip, type, quality } = best.to;
  return { sourceIp: undefined, sinkIp: ip, type, latencyMs: quality?.latencyMs };
}

/** Two ends of one link have one family, and both or none are loopback. */
function isSameKind(a: Address, b: Address): boolean {
  return isIp6(a) === isIp6(b) && (a.type === "loopback") === (b.type === "loopback");
}

function isIp6({ ip }: Address): boolean {
  return ip.includes(":");
}

/** What tells pairs of addresses apart, the weightiest first; less is better. */
function pairCost(to: Address, from: Address, newness: number): readonly number[] {
  const [a, b] = [ringCost(to.type), ringCost(from.type)];
  const bandwidth = to.quality?.bandwidthBitsPerSecond ?? 0;
  return [
    isIp6(to) ? 1 : 0,
    Math.max(a, b),
    a + b,
    -commonBits(to.ip, from.ip),
    -bandwidth,
    -newness,
  ];
}

function ringCost(type: LinkType): number {
  return RING_ORDER.indexOf(type);
}

/** How much of the front two addresses share: bits of IPv4, characters of IPv6. */
function commonBits(a: string, b: string): number {
  const [left, right] = [a, b].map((ip) => ip.includes(":") ? ip : bitsOf(ip));
  let count = 0;
  while (count < (left as string).length && left?.[count] === right?.[count]) count++;
  return count;
}

function bitsOf(ip4: string): string {
  return ip4.split(".").map((part) => Number(part).toString(2).padStart(8, "0")).join("");
}

/** The one of the least cost, the first of equals. */
function least<T extends { readonly cost: readonly number[] }>(all: readonly T[]): T | undefined {
  return all.reduce<T | undefined>(
    (best, one) => best === undefined || isLess(one.cost, best.cost) ? one : best,
    undefined,
  );
}

function isLess(a: readonly number[], b: readonly number[]): boolean {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at >= 0 && (a[at] as number) < (b[at] as number);
}

/**
 * An address of the first node at which all others reach it, kept off RDMA's cables. Only where no
 * single one serves all do they take one each, and the coordinator has to bind all of its own.
 * Undefined where some node does not reach it.
 */
export function coordinatorIps(
  network: Network,
  nodeIds: readonly NodeId[],
): readonly string[] | undefined {
  const [first, ...others] = nodeIds;
  if (first === undefined) return undefined;
  const reached = others.map((nodeId) => sorted(addressesTo(network, nodeId, first)));
  const best = reached.map(([address]) => address?.ip);
  const shared = reached[0]?.find(({ ip }) =>
    reached.every((addresses) => addresses.some((one) => one.ip === ip))
  );
  if (shared) return nodeIds.map(() => shared.ip);
  const each = best.filter((ip) => ip !== undefined);
  return each.length === others.length ? [EVERY_ADDRESS, ...each] : undefined;
}

/** What a coordinator binds that no single address of its serves. */
const EVERY_ADDRESS = "0.0.0.0";

function sorted(addresses: readonly Address[]): Address[] {
  const cost = ({ type }: Address) => COORDINATOR_ORDER.indexOf(type);
  return addresses.toReversed().sort((a, b) =>
    Number(isIp6(a)) - Number(isIp6(b)) || cost(a) - cost(b)
  );
}
