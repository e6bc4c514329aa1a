import type { Event } from "./events.ts";
import type { MetaInstancesContext } from "./meta_instance_placement.ts";
import { type PlacementTries, placementTurn } from "./placement_turns.ts";
import { reconcileInstances } from "./reconcile_instances.ts";
import { reconcileMetaInstances } from "./reconcile_meta_instances.ts";
import { type NodesContext, reconcileNodes } from "./reconcile_nodes.ts";
import type { State } from "./state.ts";

export type { CardLookup } from "./meta_instance_placement.ts";

/** What the reconcilers need beyond the state. */
export interface ReconcileContext extends NodesContext, MetaInstancesContext {
  readonly telemetry: MetaInstancesContext["telemetry"];
}

type Reconciler = (state: State, context: ReconcileContext) => Event[];

/** In the order of spec 2.8: what is broken goes before what is missing is placed. */
const RECONCILERS: readonly Reconciler[] = [
  reconcileInstances,
  reconcileNodes,
  reconcileMetaInstances,
];

/**
 * The next decision that brings the cluster nearer to what is wished for: events that belong
 * together; none once all is well or waiting. Level-triggered: asks what is, not what happened.
 * Each decision is to be applied before the next is asked for.
 */
export function reconcile(state: State, context: ReconcileContext): Event[] {
  for (const reconciler of RECONCILERS) {
    const events = reconciler(state, context);
    if (events.length > 0) return events;
  }
  return [];
}

/** Decisions that are made at once; the rest follows with the next look. */
export const DECISIONS_MAX = 1_000;

/**
 * Lets the reconcilers act until they are content; `commit` stores and applies each decision and
 * gives the state after it. Wishes are placed by turns: what is returned are the `tries` for the
 * next time.
 */
export function reconcileAll(
  start: State,
  context: ReconcileContext & { readonly tries: PlacementTries },
  commit: (events: readonly Event[]) => State,
): PlacementTries {
  let state = start;
  let { tries } = context;
  for (let decisions = 0; decisions < DECISIONS_MAX; decisions++) {
    let events = reconcile(state, { ...context, due: NOBODY });
    if (events.length === 0) {
      const turn = placementTurn(state, { ...context, tries });
      tries = turn.tries;
      events = reconcileMetaInstances(state, { ...context, due: turn.due });
    }
    if (events.length === 0) break;
    state = commit(events);
  }
  return tries;
}

const NOBODY: ReadonlySet<never> = new Set();
