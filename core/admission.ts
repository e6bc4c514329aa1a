import type { Event } from "./events.ts";
import type { NodeId, RunnerId } from "./ids.ts";
import { type Instance, rankOn, runnersOf } from "./instance.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";

/**
 * What a node's report makes happen: the report itself, nothing when it speaks of the past, or
 * more when it has consequences. Runs before an event gets its index, so that `apply` stays total.
 */
export function admit(state: State, report: Event): Event[] {
  switch (report.type) {
    case "NodeStarted":
      return nodeStarted(state, report);
    case "RunnerStatusUpdated":
      return runnerStatusUpdated(state, report);
    case "TaskStatusUpdated": {
      const task = state.tasks.get(report.taskId);
      return task && isInFlight(task) && task.taskStatus !== report.taskStatus ? [report] : [];
    }
    case "NodeDownloadProgress": {
      const known = state.customModelCards.has(report.modelId);
      const before = state.downloads.get(report.nodeId)?.get(report.modelId);
      return known && JSON.stringify(before) !== JSON.stringify(report.status) ? [report] : [];
    }
    // All else is decided by the master itself, never reported to it.
    default:
      return [];
  }
}

/**
 * A new incarnation supersedes the old one at once (D13): the processes that the old one ran are
 * gone, and so are the prompts that it kept. A report of an older incarnation says nothing new.
 */
function nodeStarted(
  state: State,
  report: Extract<Event, { type: "NodeStarted" }>,
): Event[] {
  const before = state.nodes.get(report.nodeId);
  if (before && before.incarnation >= report.incarnation) return [];
  const { nodeId, incarnation } = report;
  const gone = runnersOn(state, nodeId);
  const events: Event[] = gone.map((runnerId) => ({
    type: "RunnerStatusUpdated",
    runnerId,
    status: { type: "RunnerShutdown" },
    incarnation,
    at: 0,
  }));
  for (const task of state.tasks.values()) {
    const instance = state.instances.get(task.instanceId);
    const served = instance !== undefined && rankOn(instance, nodeId) !== undefined;
    if (task.apiNodeId === nodeId) events.push({ type: "TaskDeleted", taskId: task.taskId });
    else if (served && isInFlight(task)) {
      events.push({ type: "TaskStatusUpdated", taskId: task.taskId, taskStatus: "Failed" });
    }
  }
  return [...events, report];
}

/** Runner entries of the instances that have a rank on this node. */
function runnersOn(state: State, nodeId: NodeId): RunnerId[] {
  return [...state.instances.values()].flatMap((instance) => {
    const rank = rankOn(instance, nodeId);
    return rank && state.runners.has(rank.runnerId) ? [rank.runnerId] : [];
  });
}

/** Only runners of present instances report, and only their newest incarnation. */
function runnerStatusUpdated(
  state: State,
  report: Extract<Event, { type: "RunnerStatusUpdated" }>,
): Event[] {
  const { runnerId, incarnation, status } = report;
  const instance = ownerOf(state, runnerId);
  if (!instance) return [];
  const before = state.runners.get(runnerId);
  if (before && before.incarnation > incarnation) return [];
  if (!before && status.type === "RunnerShutdown") return [];
  if (before?.status.type === "RunnerFailed" && before.incarnation === incarnation) return [];
  if (status.type !== "RunnerFailed") return [report];
  const failed = [...state.tasks.values()]
    .filter((task) => task.instanceId === instance.instanceId && isInFlight(task))
    .map(({ taskId }): Event => ({ type: "TaskStatusUpdated", taskId, taskStatus: "Failed" }));
  return [...failed, report];
}

function ownerOf(state: State, runnerId: RunnerId): Instance | undefined {
  return [...state.instances.values()].find((instance) => runnersOf(instance).includes(runnerId));
}
