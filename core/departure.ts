import type { Event } from "./events.ts";
import type { InstanceId, NodeId } from "./ids.ts";
import { rankOn } from "./instance.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Millis } from "./units.ts";

/** What goes along with a node that is gone. */
export interface Departure {
  readonly nodeId: NodeId;
  /** The date, for what is written into events. */
  readonly now: Millis;
  /** How it went, for the clients of what it was serving: `it was silent for 30 s`. */
  readonly why: string;
}

/** The runners, the work and the requests of a node that is gone; its own entry goes after them. */
export function departed(state: State, { nodeId, now, why }: Departure): Event[] {
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
  const name = state.nodes.get(nodeId)?.info.friendlyName || nodeId;
  for (const task of state.tasks.values()) {
    const { taskId } = task;
    if (task.apiNodeId === nodeId) events.push({ type: "TaskDeleted", taskId });
    else if (served.has(task.instanceId) && isInFlight(task)) {
      const errorMessage = `Node "${name}" was lost while it served the request: ${why}`;
      events.push({ type: "TaskFailed", taskId, errorType: "node_unreachable", errorMessage });
    }
  }
  return events;
}
