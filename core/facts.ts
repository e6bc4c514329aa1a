import { admit } from "./admission.ts";
import { edgeKey } from "./connection.ts";
import type { Event } from "./events.ts";
import type { NodeId, TaskId } from "./ids.ts";
import { rankOn } from "./instance.ts";
import type { State } from "./state.ts";
import { edgesBetween } from "./topology.ts";

/**
 * All that a node has to report now: the latest report about each subject (`node`, `info:<kind>`,
 * `edge:<sink>:<edge>`, `runner:<id>`, `download:<model>`, `task:<id>`), in the order in which they
 * are told, `node` first.
 */
export interface LocalFacts {
  readonly reports: ReadonlyMap<string, Event>;
  /** Tasks whose clients are still answered here, from before their commands are asked. */
  readonly followedTasks: ReadonlySet<TaskId>;
  /** Nodes that this one could talk to, and now cannot: nor do they reach it. */
  readonly lostNodes: ReadonlySet<NodeId>;
}

/** A node that has nothing to say. */
export const NO_FACTS: LocalFacts = {
  reports: new Map(),
  followedTasks: new Set(),
  lostNodes: new Set(),
};

/** The subject of a fact about a node's edge. */
export function edgeSubject(
  { sink, edge }: Extract<Event, { type: "TopologyEdgeCreated" }>["connection"],
): string {
  return `edge:${sink}:${edgeKey(edge)}`;
}

/** The subject that a report is about: a later one about it takes its place. */
export function subjectOf(event: Event): string {
  switch (event.type) {
    case "NodeGatheredInfo":
      return `info:${event.info.type}`;
    case "TopologyEdgeCreated":
      return edgeSubject(event.connection);
    case "RunnerStatusUpdated":
      return `runner:${event.runnerId}`;
    case "NodeDownloadProgress":
      return `download:${event.modelId}`;
    case "TaskStatusUpdated":
    case "TaskFailed":
      return `task:${event.taskId}`;
    default:
      return "node";
  }
}

/** Whether the state has what a node reports, or has got past it. */
export function isSettled(state: State, nodeId: NodeId, report: Event): boolean {
  return admit(state, report, nodeId).length === 0;
}

/** The facts without those that need not be told again: of ended runners and of tasks. */
export function pruned(facts: LocalFacts, state: State, nodeId: NodeId): LocalFacts {
  const stays = (event: Event) => !isPassing(event) || !isSettled(state, nodeId, event);
  const reports = new Map([...facts.reports].filter(([, event]) => stays(event)));
  return { ...facts, reports };
}

/** Whether a report is over once it is heard: what it is about does not go on. */
function isPassing(event: Event): boolean {
  if (event.type === "TaskStatusUpdated" || event.type === "TaskFailed") return true;
  return event.type === "RunnerStatusUpdated" &&
    (event.status.type === "RunnerFailed" || event.status.type === "RunnerShutdown");
}

/**
 * What the log does not know yet of this node, or still believes although it is over. Level-
 * triggered: it is computed from what is, so nothing has to be queued or acknowledged, and a new
 * master is told what the old one missed.
 */
export function dueReports(state: State, nodeId: NodeId, facts: LocalFacts): Event[] {
  const due = [...facts.reports.values()]
    .filter((event) => admit(state, event, nodeId).length > 0);
  if (!state.nodes.has(nodeId)) return due;
  return [
    ...due,
    ...goneRunners(state, nodeId, facts),
    ...goneEdges(state, nodeId, facts),
    ...lostEdges(state, nodeId, facts),
    ...goneTasks(state, nodeId, facts),
  ];
}

/** Runners that the log has here, and that are not. A failed one stays until it is tried again. */
function goneRunners(state: State, nodeId: NodeId, { reports }: LocalFacts): Event[] {
  return [...state.instances.values()].flatMap((instance): Event[] => {
    const runnerId = rankOn(instance, nodeId)?.runnerId;
    const runner = runnerId === undefined ? undefined : state.runners.get(runnerId);
    if (!runnerId || !runner || runner.status.type === "RunnerFailed") return [];
    if (reports.has(`runner:${runnerId}`)) return [];
    const { incarnation, since } = runner;
    const status = { type: "RunnerShutdown" as const };
    return [{ type: "RunnerStatusUpdated", runnerId, status, incarnation, at: since }];
  });
}

/** Socket edges of this node that it could not confirm. RDMA edges follow from its cables. */
function goneEdges(state: State, nodeId: NodeId, { reports }: LocalFacts): Event[] {
  const sinks = state.connections.get(nodeId) ?? new Map<NodeId, never[]>();
  return [...sinks].flatMap(([sink, edges]) =>
    edges.filter(({ type }) => type === "SocketConnection")
      .map((edge) => ({ source: nodeId, sink, edge }))
      .filter((connection) => !reports.has(edgeSubject(connection)))
      .map((connection): Event => ({ type: "TopologyEdgeDeleted", connection }))
  );
}

/** Socket edges from nodes that cannot tell the others any more that they have lost this one. */
function lostEdges(state: State, sink: NodeId, { lostNodes }: LocalFacts): Event[] {
  return [...lostNodes].flatMap((source) =>
    edgesBetween(state.connections, source, sink)
      .filter(({ type }) => type === "SocketConnection")
      .map((edge): Event => ({ type: "TopologyEdgeDeleted", connection: { source, sink, edge } }))
  );
}

/** Tasks of this node's clients that nobody waits for any more. */
function goneTasks(state: State, nodeId: NodeId, { followedTasks }: LocalFacts): Event[] {
  return [...state.tasks.values()]
    .filter(({ apiNodeId, taskId }) => apiNodeId === nodeId && !followedTasks.has(taskId))
    .map(({ taskId }): Event => ({ type: "TaskDeleted", taskId }));
}
