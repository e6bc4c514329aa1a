import type { Event } from "./events.ts";
import type { InstanceId, NodeId } from "./ids.ts";
import { rankOn } from "./instance.ts";
import type { NodeState } from "./node_info.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Telemetry } from "./telemetry.ts";
import type { Millis } from "./units.ts";

/** How long a node may be silent before it counts as gone. */
export const NODE_TIMEOUT_MS = 30_000;

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
  for (const [nodeId, node] of state.nodes) {
    if (uptime - (lastSeen.get(nodeId) ?? uptime) < NODE_TIMEOUT_MS) continue;
    return nodeLost(state, { nodeId, node, now });
  }
  return [];
}

/** The runners, the work and the requests of a node leave with it, in one decision. */
function nodeLost(
  state: State,
  { nodeId, node, now }: { nodeId: NodeId; node: NodeState; now: Millis },
): Event[] {
  const events: Event[] = [];
  const served = new Set<InstanceId>();
  for (const instance of state.instances.values()) {
    const rank = rankOn(instance, nodeId);
    if (!rank) continue;
    served.add(instance.instanceId);
    const { runnerId } = rank;
    const runner = state.runners.get(runnerId);
    if (!runner) continue;
    const { incarnation } = runner;
    const status = { type: "RunnerShutdown" as const };
    events.push({ type: "RunnerStatusUpdated", runnerId, status, incarnation, at: now });
  }
  const name = node.info.friendlyName || nodeId;
  const silence = `it was silent for ${NODE_TIMEOUT_MS / 1_000} s`;
  for (const task of state.tasks.values()) {
    const { taskId } = task;
    if (task.apiNodeId === nodeId) events.push({ type: "TaskDeleted", taskId });
    else if (served.has(task.instanceId) && isInFlight(task)) {
      const errorMessage = `Node "${name}" was lost while it served the request: ${silence}`;
      events.push({ type: "TaskFailed", taskId, errorType: "node_unreachable", errorMessage });
    }
  }
  return [...events, { type: "NodeTimedOut", nodeId }];
}
