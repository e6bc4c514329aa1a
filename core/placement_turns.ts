import type { MetaInstanceId } from "./ids.ts";
import { type CardLookups, searchableMetas } from "./meta_instance_placement.ts";
import type { State } from "./state.ts";
import type { Millis } from "./units.ts";

/** How long a wish for which there was no place waits before it is placed again. */
export const PLACEMENT_RETRY_MS = 1_000;

/**
 * Wishes that may be looked for a place in vain within {@linkcode PLACEMENT_RETRY_MS}: a search
 * over a large cluster takes milliseconds, and a master has other work.
 */
export const PLACEMENTS_IN_VAIN_MAX = 8;

/** When each wish that still waits was last tried, on a clock that nobody sets. */
export type PlacementTries = ReadonlyMap<MetaInstanceId, Millis>;

/** Nobody has been tried yet. */
export const NO_TRIES: PlacementTries = new Map();

/** Whose turn it is to be placed, and the tries once they have been. */
export interface PlacementTurn {
  readonly due: ReadonlySet<MetaInstanceId>;
  readonly tries: PlacementTries;
}

/** New wishes first, then those whose last try is longest ago; no wish twice in a second. */
export function placementTurn(
  state: State,
  { tries, uptime, cards }: {
    readonly tries: PlacementTries;
    readonly uptime: Millis;
    readonly cards: CardLookups;
  },
): PlacementTurn {
  const waiting = searchableMetas(state, cards);
  const triedAt = (id: MetaInstanceId) => tries.get(id) ?? -PLACEMENT_RETRY_MS;
  const rested = waiting.filter((id) => uptime - triedAt(id) >= PLACEMENT_RETRY_MS);
  const room = Math.max(0, PLACEMENTS_IN_VAIN_MAX - (waiting.length - rested.length));
  const due = new Set(rested.sort((a, b) => triedAt(a) - triedAt(b)).slice(0, room));
  const tried = waiting.filter((id) => due.has(id) || tries.has(id))
    .map((id) => [id, due.has(id) ? uptime : triedAt(id)] as const);
  return { due, tries: new Map(tried) };
}
