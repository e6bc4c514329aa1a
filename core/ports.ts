import type { Instance } from "./instance.ts";
import type { State } from "./state.ts";

/** The range that instances take their ports from: the dynamic ports of RFC 6335. */
export const INSTANCE_PORT_MIN = 49_152;

/** See `INSTANCE_PORT_MIN`. */
export const INSTANCE_PORT_MAX = 65_535;

/** Ports of exo itself: libp2p and the API. */
const RESERVED: readonly number[] = [52_414, 52_415];

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

/**
 * A port for an instance: the same each time for the same id, and none of `used` while there is
 * another.
 */
export function freePort(instanceId: string, used: ReadonlySet<number>): number {
  let hash = FNV_OFFSET;
  for (let at = 0; at < instanceId.length; at++) {
    hash = Math.imul(hash ^ instanceId.charCodeAt(at), FNV_PRIME);
  }
  const count = INSTANCE_PORT_MAX - INSTANCE_PORT_MIN + 1;
  const first = (hash >>> 0) % count;
  for (let tried = 0; tried < count; tried++) {
    const port = INSTANCE_PORT_MIN + (first + tried) % count;
    if (!used.has(port)) return port;
  }
  return INSTANCE_PORT_MIN + first;
}
