import type { MetaInstanceId, NodeId } from "./ids.ts";
import { availableForModels } from "./memory_fit.ts";
import { type CardLookups, searchableMetas } from "./meta_instance_placement.ts";
import type { State } from "./state.ts";
import type { NodeMemory, Telemetry } from "./telemetry.ts";
import { MIB, type Millis } from "./units.ts";

/** The shortest time between two searches for one wish. */
export const PLACEMENT_RETRY_MS = 1_000;

/** After this time a wish is searched a place for although nothing seems to have changed. */
export const PLACEMENT_RETRY_MS_MAX = 300_000;

/** Free memory of a node that has grown by this much is worth another search. */
export const PLACEMENT_MEMORY_STEP_BYTES = 64 * MIB;

/** Searches in vain within {@linkcode PLACEMENT_RETRY_MS}: a master has other work. */
export const SEARCHES_MAX = 8;

/** Nodes that these searches look through together, but for one search; it may take milliseconds. */
export const NODES_SEARCHED_MAX = 1_000;

/** What a search depends on, as it was when it last became better. */
interface Surroundings extends Pick<State, "nodes" | "connections" | "instances" | "downloads"> {
  /** Counts the changes. */
  readonly version: number;
  /** The least free memory of each node since then. */
  readonly freeBytes: ReadonlyMap<NodeId, number>;
}

/** The wishes for which places were searched in vain, and what there was to be found then. */
export interface PlacementTries {
  readonly surroundings: Surroundings;
  /** When each wish was tried last, on a clock that nobody sets. */
  readonly tried: ReadonlyMap<MetaInstanceId, { readonly at: Millis; readonly version: number }>;
}

/** Nobody has been tried yet. */
export const NO_TRIES: PlacementTries = {
  surroundings: {
    version: 0,
    nodes: new Map(),
    connections: new Map(),
    instances: new Map(),
    downloads: new Map(),
    freeBytes: new Map(),
  },
  tried: new Map(),
};

/** Whose turn it is to be placed, and the tries once they have been. */
export interface PlacementTurn {
  readonly due: ReadonlySet<MetaInstanceId>;
  readonly tries: PlacementTries;
}

/** A wish that has not been tried goes before all others. */
const NEVER = { at: -PLACEMENT_RETRY_MS_MAX, version: -1 };

/**
 * New wishes first, then those whose last try is longest ago, if there is more to be found since.
 * Costs a glance at each node, however many wishes wait.
 */
export function placementTurn(
  state: State,
  { tries, uptime, cards, telemetry: { memory } }: {
    readonly tries: PlacementTries;
    readonly uptime: Millis;
    readonly cards: CardLookups;
    readonly telemetry: Pick<Telemetry, "memory">;
  },
): PlacementTurn {
  const waiting = searchableMetas(state, cards);
  if (waiting.length === 0) return { due: new Set(), tries: NO_TRIES };
  const surroundings = lookAround(tries.surroundings, state, memory);
  const { version } = surroundings;
  const lastOf = (id: MetaInstanceId) => tries.tried.get(id) ?? NEVER;
  const isRested = (id: MetaInstanceId) => uptime - lastOf(id).at >= PLACEMENT_RETRY_MS;
  const isHopeful = (id: MetaInstanceId) =>
    lastOf(id).version !== version || uptime - lastOf(id).at >= PLACEMENT_RETRY_MS_MAX;
  const rested = waiting.filter(isRested);
  const room = searchesMax(state) - (waiting.length - rested.length);
  const next = rested.filter(isHopeful).sort((a, b) => lastOf(a).at - lastOf(b).at);
  const due = new Set(next.slice(0, Math.max(0, room)));
  const tried = waiting.filter((id) => due.has(id) || tries.tried.has(id))
    .map((id) => [id, due.has(id) ? { at: uptime, version } : lastOf(id)] as const);
  return { due, tries: { surroundings, tried: new Map(tried) } };
}

function searchesMax({ nodes }: State): number {
  return Math.min(SEARCHES_MAX, Math.max(1, Math.floor(NODES_SEARCHED_MAX / nodes.size)));
}

/** What there is now: a new version if more can be found than before. */
function lookAround(
  before: Surroundings,
  { nodes, connections, instances, downloads }: State,
  memory: ReadonlyMap<NodeId, NodeMemory>,
): Surroundings {
  const freeBytes = new Map<NodeId, number>();
  let isBetter = before.nodes !== nodes || before.connections !== connections ||
    before.instances !== instances || before.downloads !== downloads;
  const now = [...memory].map(([nodeId, one]) =>
    [nodeId, availableForModels(nodes.get(nodeId), one)] as const
  );
  for (const [nodeId, free] of now) {
    const least = before.freeBytes.get(nodeId) ?? -PLACEMENT_MEMORY_STEP_BYTES;
    if (free - least >= PLACEMENT_MEMORY_STEP_BYTES) isBetter = true;
    freeBytes.set(nodeId, Math.min(free, least));
  }
  if (!isBetter) return { ...before, freeBytes };
  const version = before.version + 1;
  return { version, nodes, connections, instances, downloads, freeBytes: new Map(now) };
}
