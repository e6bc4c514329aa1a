import { type Instance, nodesByRank } from "./instance.ts";
import type { PortRange } from "./port_range.ts";
import type { State } from "./state.ts";

export { PORT_MAX, PortRange, RANGE_PORT_MIN } from "./port_range.ts";

/** The port that a node listens on for other nodes, unless its user says otherwise. */
export const LIBP2P_PORT = 52_414;

/**
 * What instances take their ports from unless it is said. Below those that systems give to outgoing
 * connections (Linux 32,768 to 60,999, macOS from 49,152 on): one of them may have any of those.
 */
export const INSTANCE_PORTS: PortRange = { from: 28_000, to: 32_767 };

/** Ports of exo itself: libp2p and the API. */
const RESERVED: readonly number[] = [LIBP2P_PORT, 52_415];

/** FNV-1a over UTF-16 code units. */
const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/** The ports of the instances of a cluster: some of their nodes may share a host. */
export function portsInUse({ instances }: Pick<State, "instances">): Set<number> {
  return new Set([...RESERVED, ...[...instances.values()].flatMap(portsOf)]);
}

function portsOf(instance: Instance): number[] {
  const ring = Object.values(instance.hostsByNode).flat().map(({ port }) => port);
  if (instance.type === "MlxRingInstance") {
    return [...ring, ...[instance.ephemeralPort ?? []].flat()];
  }
  const coordinators = Object.values(instance.jacclCoordinators);
  return [...ring, ...coordinators.map((address) => Number(/:(\d+)$/.exec(address)?.[1]))];
}

/** How many ports of the range an instance could still have. */
export function freePortCount({ from, to }: PortRange, used: ReadonlySet<number>): number {
  let count = 0;
  for (let port = from; port <= to; port++) if (!used.has(port)) count++;
  return count;
}

/** Where the ports of an instance come from. */
export interface PortSource {
  /** The same ports each time for the same seed. */
  readonly seed: string;
  readonly used: ReadonlySet<number>;
  readonly range: PortRange | undefined;
  /** Of the used ones, those that may be taken where there are no others. */
  readonly spare?: readonly number[];
}

/** So many ports, all different; undefined where there are not so many. */
function freePorts(
  count: number,
  { seed, used, range: { from, to } = INSTANCE_PORTS, spare = [] }: PortSource,
): number[] | undefined {
  let hash = FNV_OFFSET;
  for (let at = 0; at < seed.length; at++) hash = Math.imul(hash ^ seed.charCodeAt(at), FNV_PRIME);
  const ports: number[] = [];
  const size = to - from + 1;
  for (let tried = 0; tried < size && ports.length < count; tried++) {
    const port = from + ((hash >>> 0) + tried) % size;
    if (!used.has(port)) ports.push(port);
  }
  ports.push(...spare.slice(0, count - ports.length));
  return ports.length < count ? undefined : ports;
}

/** How many ports ranks at these addresses need: those that share one, as on one host, one each. */
export function portsNeeded(ips: readonly string[]): number {
  return Math.max(0, ...ips.map((_, rank) => nthAt(ips, rank) + 1));
}

/** Which of the ranks at one address this is. */
function nthAt(ips: readonly string[], rank: number): number {
  return ips.slice(0, rank).filter((ip) => ip === ips[rank]).length;
}

/**
 * Where the ranks of an instance listen, by rank: all at one port, but those that share an address,
 * as on one host, each at one of its own. Undefined where there are not so many ports.
 */
export function rankPorts(ips: readonly string[], source: PortSource): number[] | undefined {
  const ports = freePorts(portsNeeded(ips), source);
  return ports && ips.map((_, rank) => ports[nthAt(ips, rank)] as number);
}

/**
 * Ports for the next attempt of an instance, by rank, and last its coordinator's where it has one:
 * others than it has, as far as there are, since some program may have taken those. Undefined where
 * it has none, or keeps those that it has: there are too few.
 */
export function portsOfRetry(
  state: Pick<State, "instances">,
  instance: Instance,
  attempts: number,
): number[] | undefined {
  const { portRange: range = INSTANCE_PORTS, instanceId } = instance;
  const ips = listeningIps(instance);
  if (ips.length === 0) return undefined;
  const others = new Map(state.instances);
  others.delete(instanceId);
  const ofOthers = portsInUse({ instances: others });
  const own = new Set(portsOf(instance));
  // Where there are no more, its own are better than those of another instance.
  const isSpare = (port: number) => port >= range.from && port <= range.to && !ofOthers.has(port);
  return rankPorts(ips, {
    seed: `${instanceId}/${attempts}`,
    used: new Set([...ofOthers, ...own]),
    range,
    spare: [...own].filter(isSpare),
  });
}

/** The addresses at which an instance listens, by rank, and last its coordinator's. */
function listeningIps(instance: Instance): string[] {
  const hosts = nodesByRank(instance).map((id, rank) => instance.hostsByNode[id]?.[rank]?.ip);
  const ips = hosts.filter((ip) => ip !== undefined);
  // On the machine of the first rank, it needs another port than that one.
  return instance.type === "MlxJacclInstance" ? [...ips, ips[0] ?? COORDINATOR] : ips;
}

/** Stands for the address of the first rank where nobody has said it. */
const COORDINATOR = "coordinator";

/** The instance with other ports, as `portsOfRetry` has found them. */
export function withPorts(instance: Instance, ports: readonly number[]): Instance {
  const [first] = ports;
  if (first === undefined) return instance;
  const hosts = Object.entries(instance.hostsByNode).map(([nodeId, seen]) => [
    nodeId,
    // A rank that another never talks to has no port there.
    seen.map((host, rank) => host.port === 0 ? host : { ...host, port: ports[rank] ?? host.port }),
  ]);
  const hostsByNode = Object.fromEntries(hosts);
  if (instance.type === "MlxRingInstance") {
    return { ...instance, hostsByNode, ephemeralPort: first };
  }
  const coordinators = Object.entries(instance.jacclCoordinators)
    .map(([nodeId, address]) => [nodeId, address.replace(/:\d+$/, `:${ports.at(-1)}`)]);
  return { ...instance, hostsByNode, jacclCoordinators: Object.fromEntries(coordinators) };
}
