import { z } from "zod";
import type { Instance } from "./instance.ts";
import type { State } from "./state.ts";

/** The port that a node listens on for other nodes, unless its user says otherwise. */
export const LIBP2P_PORT = 52_414;

/** The highest port that there is. */
export const PORT_MAX = 65_535;

/** Lower ports need rights that a rank has not. */
export const RANGE_PORT_MIN = 1_024;

const port = z.number().int().min(RANGE_PORT_MIN).max(PORT_MAX);

/** Ports from one to another, both with it. */
export const PortRange = z.object({ from: port, to: port })
  .refine(({ from, to }) => from <= to, "the lower port first");
export type PortRange = z.infer<typeof PortRange>;

/** What instances take their ports from unless it is said: the dynamic ports of RFC 6335. */
export const INSTANCE_PORTS: PortRange = { from: 49_152, to: PORT_MAX };

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
