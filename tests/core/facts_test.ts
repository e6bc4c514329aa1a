import { deepEqual, equal } from "node:assert/strict";
import {
  dueReports,
  edgeSubject,
  isSettled,
  type LocalFacts,
  NO_FACTS,
  pruned,
  subjectOf,
} from "../../core/facts.ts";
import type { Connection } from "../../core/connection.ts";
import type { Event } from "../../core/events.ts";
import {
  A,
  B,
  created,
  downloaded,
  fold,
  instanceOf,
  nodeStarted,
  reported,
  taskCreated,
  taskId,
  taskOf,
} from "../support/fixtures.ts";

const edge = (address: string): Connection => ({
  source: A,
  sink: B,
  edge: { type: "SocketConnection", sinkMultiaddr: address },
});
const RDMA: Connection = {
  source: A,
  sink: B,
  edge: { type: "RdmaConnection", sourceRdmaIface: "rdma_en1", sinkRdmaIface: "rdma_en2" },
};

function factsOf(reports: readonly [string, Event][], tasks: readonly string[] = []): LocalFacts {
  return { ...NO_FACTS, reports: new Map(reports), followedTasks: new Set(tasks.map(taskId)) };
}

function edgeCreated(connection: Connection): [string, Event] {
  return [edgeSubject(connection), { type: "TopologyEdgeCreated", connection }];
}

const BOTH = [nodeStarted(A), nodeStarted(B)];

Deno.test("a fact is due until the log has it", () => {
  const facts = factsOf([["node", nodeStarted(A)]]);
  deepEqual(dueReports(fold([]), A, facts), [nodeStarted(A)]);
  deepEqual(dueReports(fold([nodeStarted(A)]), A, facts), []);
  deepEqual(dueReports(fold([nodeStarted(A), { type: "NodeTimedOut", nodeId: A }]), A, facts), [
    nodeStarted(A),
  ]);
});

Deno.test("what follows from a node waits until the node is there", () => {
  const [subject, event] = edgeCreated(edge("/ip4/10.0.0.2/tcp/52414"));
  const facts = factsOf([["node", nodeStarted(A)], [subject, event]]);
  deepEqual(dueReports(fold([nodeStarted(B)]), A, facts), [nodeStarted(A)]);
  deepEqual(dueReports(fold(BOTH), A, facts), [event]);
});

Deno.test("socket edges that are not claimed are gone, RDMA edges are not a node's to deny", () => {
  const [old, kept] = [edge("/ip4/10.0.0.2/tcp/1"), edge("/ip4/10.0.0.2/tcp/2")];
  const others = { source: B, sink: A, edge: old.edge };
  const state = fold([
    ...BOTH,
    ...[old, kept, RDMA, others]
      .map((connection): Event => ({ type: "TopologyEdgeCreated", connection })),
  ]);
  deepEqual(dueReports(state, A, factsOf([edgeCreated(kept)])), [
    { type: "TopologyEdgeDeleted", connection: old },
  ]);
});

Deno.test("a node denies socket edges from nodes that it has lost, no others", () => {
  const { edge: way } = edge("/ip4/10.0.0.1/tcp/1");
  const here = { source: B, sink: A, edge: way };
  const cable = { ...RDMA, source: B, sink: A };
  const state = fold([
    ...BOTH,
    ...[here, cable].map((connection): Event => ({ type: "TopologyEdgeCreated", connection })),
  ]);
  deepEqual(dueReports(state, A, NO_FACTS), []);
  const due = dueReports(state, A, { ...NO_FACTS, lostNodes: new Set([B]) });
  deepEqual(due, [{ type: "TopologyEdgeDeleted", connection: here }]);
  deepEqual(dueReports(fold(due, state), A, { ...NO_FACTS, lostNodes: new Set([B]) }), []);
});

Deno.test("a runner that is not claimed is gone; a failed one stays until it is retried", () => {
  const events = [...BOTH, created(instanceOf("i", [A, B])), created(instanceOf("j", [A]))];
  const state = fold([
    ...events,
    reported("i:0", "RunnerReady", { at: 7 }),
    reported("i:1", "RunnerReady"),
  ]);
  deepEqual(dueReports(state, A, NO_FACTS), [
    reported("i:0", "RunnerShutdown", { at: 7 }),
  ]);
  const claimed = factsOf([["runner:i:0", reported("i:0", "RunnerReady")]]);
  deepEqual(dueReports(state, A, claimed), []);
  deepEqual(dueReports(fold([...events, reported("i:0", "RunnerFailed")]), A, NO_FACTS), []);
  deepEqual(dueReports(fold(events), A, NO_FACTS), []);
});

Deno.test("tasks that no client waits for are deleted, those of other nodes are not", () => {
  const state = fold([
    ...BOTH,
    created(instanceOf("i")),
    taskCreated(taskOf("here", "i")),
    taskCreated(taskOf("left", "i")),
    taskCreated(taskOf("there", "i", { apiNodeId: B })),
  ]);
  deepEqual(dueReports(state, A, factsOf([], ["here"])), [
    { type: "TaskDeleted", taskId: taskId("left") },
  ]);
});

Deno.test("a later report about a subject takes the place of the one before", () => {
  const taskStatus = {
    type: "TaskStatusUpdated",
    taskId: taskId("t"),
    taskStatus: "Running",
  } as const;
  const taskFailed = {
    type: "TaskFailed",
    taskId: taskId("t"),
    errorType: "",
    errorMessage: "",
  } as const;
  const info = { type: "RdmaCtlStatus", enabled: true } as const;
  const connection = edge("/ip4/10.0.0.2/tcp/1");
  const subjects = [
    nodeStarted(A),
    { type: "NodeGatheredInfo", nodeId: A, incarnation: 1, info } as const,
    { type: "TopologyEdgeCreated", connection } as const,
    reported("i:0", "RunnerReady"),
    downloaded(A),
    taskStatus,
    taskFailed,
  ].map(subjectOf);
  deepEqual(subjects, [
    "node",
    "info:RdmaCtlStatus",
    `edge:node-b:/ip4/10.0.0.2/tcp/1`,
    "runner:i:0",
    "download:local/tiny-0123abcd",
    "task:t",
    "task:t",
  ]);
});

Deno.test("what ended is told until the log has it, what goes on for as long as it does", () => {
  const state = fold([...BOTH, created(instanceOf("i", [A])), taskCreated(taskOf("t", "i"))]);
  const reports: [string, Event][] = [
    ["node", nodeStarted(A)],
    ["runner:i:0", reported("i:0", "RunnerFailed")],
    ["runner:j:0", reported("j:0", "RunnerShutdown")],
    ["runner:k:0", reported("k:0", "RunnerReady")],
    ["task:t", { type: "TaskStatusUpdated", taskId: taskId("t"), taskStatus: "Running" }],
    ["task:u", { type: "TaskFailed", taskId: taskId("u"), errorType: "", errorMessage: "" }],
  ];
  const left = pruned(factsOf(reports), state, A);
  deepEqual([...left.reports.keys()], ["node", "runner:i:0", "runner:k:0", "task:t"]);
  equal(isSettled(state, A, nodeStarted(A)), true);
  equal(isSettled(state, A, nodeStarted(A, 2)), false);
});
