import { isDownloadOfUse } from "./apply_models.ts";
import { nodeGatheredInfo } from "./apply_nodes.ts";
import { type Connection, edgeKey } from "./connection.ts";
import { departed } from "./departure.ts";
import type { Event } from "./events.ts";
import { withShortTexts } from "./free_text.ts";
import type { NodeId, RunnerId } from "./ids.ts";
import { type Instance, rankOn } from "./instance.ts";
import type { RunnerStatus } from "./runner_status.ts";
import { isSame } from "./same.ts";
import type { State } from "./state.ts";
import { isInFlight, type TaskStatus } from "./task.ts";
import { edgesBetween } from "./topology.ts";

type Of<T extends Event["type"]> = Extract<Event, { type: T }>;

/** Most addresses at which one node tells that it reaches another. */
export const EDGES_MAX = 64;

/**
 * What a node's report makes happen: the report itself, nothing when it speaks of the past, is
 * known, or is not for that node to tell, or more when it has consequences. Runs before an event
 * gets its index, so that `apply` stays total. Idempotent: once its events are applied, the same
 * report makes nothing happen. `from` is who reports, where that is known.
 */
export function admit(state: State, reported: Event, from?: NodeId): Event[] {
  const report = withShortTexts(reported);
  switch (report.type) {
    case "NodeStarted":
      return isBy(from, report.nodeId) ? nodeStarted(state, report) : [];
    case "NodeLeft":
      return isBy(from, report.nodeId) ? nodeLeft(state, report) : [];
    case "NodeGatheredInfo":
      return isBy(from, report.nodeId) && isInfoNew(state, report) ? [report] : [];
    case "TopologyEdgeCreated":
      return isBy(from, report.connection.source) && isEdgeNew(state, report) ? [report] : [];
    case "TopologyEdgeDeleted":
      return isByEnd(from, report.connection) && isEdgeKnown(state, report) ? [report] : [];
    case "RunnerStatusUpdated":
      return runnerStatusUpdated(state, report, from);
    case "TaskStatusUpdated":
      return isProgress(state, report, from) ? [report] : [];
    case "TaskFailed":
      return isOwnTask(state, report, from) ? [report] : [];
    case "TaskDeleted":
      return isAskedBy(state, report, from) ? [report] : [];
    case "NodeDownloadProgress":
      return isBy(from, report.nodeId) && isDownloadNew(state, report) ? [report] : [];
    // All else is decided by the master itself, never reported to it.
    default:
      return [];
  }
}

function isBy(from: NodeId | undefined, nodeId: NodeId | undefined): boolean {
  return from === undefined || from === nodeId;
}

/** A way that is gone is told by whoever still can; one that is there, by who goes it. */
function isByEnd(from: NodeId | undefined, { source, sink }: Connection): boolean {
  return isBy(from, source) || isBy(from, sink);
}

/**
 * A new incarnation supersedes the old one at once (D13): the processes that the old one ran are
 * gone, and so are the prompts that it kept. A report of an older incarnation says nothing new.
 */
function nodeStarted(state: State, report: Of<"NodeStarted">): Event[] {
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

/**
 * A node that stops takes along what would go with it once it had timed out. It names its
 * incarnation: word of it that comes late does nothing to the process that came after.
 */
function nodeLeft(state: State, report: Of<"NodeLeft">): Event[] {
  const { nodeId, incarnation } = report;
  const node = state.nodes.get(nodeId);
  if (!node || node.incarnation > incarnation) return [];
  const events: Event[] = [...departed(state, { nodeId, now: 0, why: "it was stopped" }), report];
  // It means to stay away: what wishes had on it is placed elsewhere at once.
  for (const instance of state.instances.values()) {
    const { instanceId, metaInstanceId } = instance;
    if (!metaInstanceId || !rankOn(instance, nodeId)) continue;
    events.push({ type: "InstanceDeleted", instanceId });
  }
  return events;
}

/** Runner entries of the instances that have a rank on this node. */
function runnersOn(state: State, nodeId: NodeId): RunnerId[] {
  return [...state.instances.values()].flatMap((instance) => {
    const rank = rankOn(instance, nodeId);
    return rank && state.runners.has(rank.runnerId) ? [rank.runnerId] : [];
  });
}

/** Whether a fact would change the state; those of an earlier start of the node are of the past. */
function isInfoNew(state: State, report: Of<"NodeGatheredInfo">): boolean {
  const { incarnation } = state.nodes.get(report.nodeId) ?? {};
  return incarnation === report.incarnation &&
    nodeGatheredInfo(state, report, state.lastEventAppliedIdx + 1) !== state;
}

/**
 * A node tells what it reaches by network, never whom itself, nor what another does; cables follow
 * from the facts at both their ends. An edge to a node that is away would make a ghost of it.
 */
function isEdgeNew(
  state: State,
  { connection: { source, sink, edge } }: Of<"TopologyEdgeCreated">,
): boolean {
  const isPossible = source !== sink && state.nodes.has(source) && state.nodes.has(sink);
  if (!isPossible || edge.type !== "SocketConnection") return false;
  const known = edgesBetween(state.connections, source, sink);
  return known.length < EDGES_MAX && known.every((other) => edgeKey(other) !== edgeKey(edge));
}

function isEdgeKnown(
  state: State,
  { connection: { source, sink, edge } }: Of<"TopologyEdgeDeleted">,
): boolean {
  return edge.type === "SocketConnection" &&
    edgesBetween(state.connections, source, sink).some((other) => edgeKey(other) === edgeKey(edge));
}

/**
 * Only runners of present instances are reported, only by their nodes while these are there, only
 * by their newest incarnation. A process that is gone, or about to go, has answered its last: what it
 * worked on fails before it.
 */
function runnerStatusUpdated(
  state: State,
  report: Of<"RunnerStatusUpdated">,
  from: NodeId | undefined,
): Event[] {
  const { runnerId, incarnation, status } = report;
  const instance = ownerOf(state, runnerId);
  const nodeId = instance && nodeOf(instance, runnerId);
  if (!instance || !nodeId || !isBy(from, nodeId) || !state.nodes.has(nodeId)) return [];
  const before = state.runners.get(runnerId);
  const failed = state.instanceRetries.get(instance.instanceId)?.incarnations[runnerId] ?? -1;
  if (incarnation <= failed || (before && before.incarnation > incarnation)) return [];
  if (!before && status.type === "RunnerShutdown") return [];
  const isOfSame = before?.incarnation === incarnation;
  if (isOfSame && (before.status.type === "RunnerFailed" || isSame(before.status, status))) {
    return [];
  }
  const isOver = ENDS.has(status.type) ||
    (before !== undefined && !isOfSame);
  return isOver ? [...failures(state, instance), report] : [report];
}

/** Statuses of a runner that answers no more; one that hangs can take a minute to go. */
const ENDS: ReadonlySet<RunnerStatus["type"]> = new Set([
  "RunnerShuttingDown",
  "RunnerShutdown",
  "RunnerFailed",
]);

function failures(state: State, { instanceId }: Instance): Event[] {
  return [...state.tasks.values()]
    .filter((task) => task.instanceId === instanceId && isInFlight(task))
    .map(({ taskId }) => ({ type: "TaskStatusUpdated", taskId, taskStatus: "Failed" }));
}

function ownerOf(state: State, runnerId: RunnerId): Instance | undefined {
  return [...state.instances.values()]
    .find(({ shardAssignments }) => shardAssignments.runnerToShard[runnerId] !== undefined);
}

function nodeOf({ shardAssignments }: Instance, runnerId: RunnerId): NodeId | undefined {
  const found = Object.entries(shardAssignments.nodeToRunner).find(([, id]) => id === runnerId);
  return found?.[0] as NodeId | undefined;
}

/** How far each status is; a task only ever goes on, and only from the first two. */
const PROGRESS: Readonly<Record<TaskStatus, number>> = {
  Pending: 0,
  Running: 1,
  Complete: 2,
  TimedOut: 2,
  Failed: 2,
  Cancelled: 2,
};

function isProgress(
  state: State,
  report: Of<"TaskStatusUpdated">,
  from: NodeId | undefined,
): boolean {
  const task = state.tasks.get(report.taskId);
  return isOwnTask(state, report, from) && task !== undefined &&
    PROGRESS[report.taskStatus] > PROGRESS[task.taskStatus];
}

/** Whether a task is in flight, and `from` has a part in it: it computes it, or wants its answer. */
function isOwnTask(
  state: State,
  { taskId }: { taskId: Of<"TaskFailed">["taskId"] },
  from: NodeId | undefined,
): boolean {
  const task = state.tasks.get(taskId);
  if (!task || !isInFlight(task)) return false;
  const instance = state.instances.get(task.instanceId);
  return isBy(from, task.apiNodeId) ||
    (instance !== undefined && from !== undefined && rankOn(instance, from) !== undefined);
}

function isAskedBy(state: State, { taskId }: Of<"TaskDeleted">, from: NodeId | undefined): boolean {
  const task = state.tasks.get(taskId);
  return task !== undefined && isBy(from, task.apiNodeId);
}

/**
 * Of models that concern the cluster all is worth knowing, of others that a node has them; a file
 * of a disk is known by its card alone.
 */
function isDownloadNew(
  state: State,
  { nodeId, modelId, status }: Of<"NodeDownloadProgress">,
): boolean {
  const before = state.downloads.get(nodeId)?.get(modelId);
  if (!state.nodes.has(nodeId) || isSame(before, status)) return false;
  if (isDownloadOfUse(state, nodeId, modelId)) return true;
  if (status.type === "DownloadPending") return before !== undefined;
  return status.type === "DownloadCompleted" && !modelId.startsWith("local/");
}
