import { departed } from "./departure.ts";
import type { Event } from "./events.ts";
import type { State } from "./state.ts";
import type { Telemetry } from "./telemetry.ts";
import type { Millis } from "./units.ts";

/** How long a node may be silent before it counts as gone. */
export const NODE_TIMEOUT_MS = 30_000;

const SILENCE = `it was silent for ${NODE_TIMEOUT_MS / 1_000} s`;

/** What the reconciler of nodes needs beyond the state. */
export interface NodesContext {
  /** A node that is not in `lastSeen` is waited for; nobody else's name counts (D13). */
  readonly telemetry: Pick<Telemetry, "lastSeen">;
  /** The time of `telemetry.lastSeen`. */
  readonly uptime: Millis;
  /** The date, for what is written into events. */
  readonly now: Millis;
}

/** NodeTimeout: lets go of the first node that has been silent for too long. */
export function reconcileNodes(
  state: State,
  { telemetry: { lastSeen }, uptime, now }: NodesContext,
): Event[] {
  for (const nodeId of state.nodes.keys()) {
    if (uptime - (lastSeen.get(nodeId) ?? uptime) < NODE_TIMEOUT_MS) continue;
    return [...departed(state, { nodeId, now, why: SILENCE }), { type: "NodeTimedOut", nodeId }];
  }
  return [];
}
