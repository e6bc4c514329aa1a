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
  if (instance.type === "MlxJacclInstance") {
    const coordinators = Object.values(instance.jacclCoordinators);
    return coordinators.map((address) => Number(/:(\d+)$/.exec(address)?.[1]));
  }
  const hosts = Object.values(instance.hostsByNode).flat();
  return [...hosts.map(({ port }) => port), ...[instance.ephemeralPort ?? []].flat()];
}

/** Whether an instance could still have a port of its own. */
export function hasFreePort({ from, to }: PortRange, used: ReadonlySet<number>): boolean {
  for (let port = from; port <= to; port++) if (!used.has(port)) return true;
  return false;
}

/**
 * A port of `range` for an instance: the same each time for the same id, and none of `used` while
 * there is another.
 */
export function freePort(
  instanceId: string,
  used: ReadonlySet<number>,
  { from, to }: PortRange = INSTANCE_PORTS,
): number {
  let hash = FNV_OFFSET;
  for (let at = 0; at < instanceId.length; at++) {
    hash = Math.imul(hash ^ instanceId.charCodeAt(at), FNV_PRIME);
  }
  const count = to - from + 1;
  const first = (hash >>> 0) % count;
  for (let tried = 0; tried < count; tried++) {
    const port = from + (first + tried) % count;
    if (!used.has(port)) return port;
  }
  return from + first;
}

/**
 * Where the ranks of an instance listen, by rank: all at one port, but those that share an address,
 * as on one host, each at one of its own.
 */
export function rankPorts(
  ips: readonly string[],
  { seed, used, range }: {
    /** The same ports each time for the same seed. */
    readonly seed: string;
    readonly used: ReadonlySet<number>;
    readonly range: PortRange | undefined;
  },
): number[] {
  const first = freePort(seed, used, range);
  const taken = new Set([...used, first]);
  return ips.map((ip, rank) => {
    if (ips.indexOf(ip) === rank) return first;
    const port = freePort(seed, taken, range);
    taken.add(port);
    return port;
  });
}

/**
 * Ports for the next attempt of an instance, by rank, its coordinator's alone where it has one:
 * others than it has, as far as there are, since some program may have taken those. Undefined for
 * an instance without ports.
 */
export function portsOfRetry(
  state: Pick<State, "instances">,
  instance: Instance,
  attempts: number,
): number[] | undefined {
  const { portRange: range = INSTANCE_PORTS, instanceId } = instance;
  const ips = listeningIps(instance);
  if (ips.length === 0) return undefined;
  const all = portsInUse(state);
  const others = new Map(state.instances);
  others.delete(instanceId);
  // Where there are no more, its own are better than those of another instance.
  const used = hasFreePort(range, all) ? all : portsInUse({ instances: others });
  return rankPorts(ips, { seed: `${instanceId}/${attempts}`, used, range });
}

/** The addresses at which an instance listens, by rank. */
function listeningIps(instance: Instance): string[] {
  if (instance.type === "MlxJacclInstance") return [COORDINATOR];
  const hosts = nodesByRank(instance).map((id, rank) => instance.hostsByNode[id]?.[rank]?.ip);
  return hosts.filter((ip) => ip !== undefined);
}

/** Stands for the address of the one rank that listens. */
const COORDINATOR = "coordinator";

/** The instance with other ports, as `portsOfRetry` has found them. */
export function withPorts(instance: Instance, ports: readonly number[]): Instance {
  const [first] = ports;
  if (first === undefined) return instance;
  if (instance.type === "MlxJacclInstance") {
    const moved = Object.entries(instance.jacclCoordinators)
      .map(([nodeId, address]) => [nodeId, address.replace(/:\d+$/, `:${first}`)]);
    return { ...instance, jacclCoordinators: Object.fromEntries(moved) };
  }
  const hosts = Object.entries(instance.hostsByNode).map(([nodeId, seen]) => [
    nodeId,
    // A rank that another never talks to has no port there.
    seen.map((host, rank) => host.port === 0 ? host : { ...host, port: ports[rank] ?? host.port }),
  ]);
  return { ...instance, hostsByNode: Object.fromEntries(hosts), ephemeralPort: first };
}
