import assert from "node:assert/strict";
import { admit, EDGES_MAX } from "../../core/admission.ts";
import type { Event } from "../../core/events.ts";
import { ModelId } from "../../core/ids.ts";
import { gathered, metaCreated, metaOf, socket } from "../support/control_plane.ts";
import {
  A,
  B,
  C,
  cardOf,
  created,
  downloaded,
  fold,
  instanceId,
  instanceOf,
  MODEL,
  nodeStarted,
  reported,
  runnerId,
  taskCreated,
  taskId,
  taskOf,
} from "../support/fixtures.ts";

const placed = [nodeStarted(A), created(instanceOf("i"))];

Deno.test("A22: a report of a deleted instance's runner is not indexed", () => {
  const state = fold([...placed, { type: "InstanceDeleted", instanceId: instanceId("i") }]);
  assert.deepEqual(admit(state, reported("i:0", "RunnerReady")), []);
  assert.equal(state.runners.size, 0);
});

Deno.test("a report of an older incarnation is not indexed", () => {
  const state = fold([...placed, reported("i:0", "RunnerIdle", { incarnation: 3 })]);
  assert.deepEqual(admit(state, reported("i:0", "RunnerFailed", { incarnation: 2 })), []);
  const next = reported("i:0", "RunnerIdle", { incarnation: 4 });
  assert.deepEqual(admit(state, next), [next]);
});

Deno.test("nothing follows the failure of a runner but its next incarnation", () => {
  const state = fold([...placed, reported("i:0", "RunnerFailed")]);
  assert.deepEqual(admit(state, reported("i:0", "RunnerReady")), []);
  assert.deepEqual(admit(state, reported("i:0", "RunnerFailed")), []);
  const next = reported("i:0", "RunnerIdle", { incarnation: 2 });
  assert.deepEqual(admit(state, next), [next]);
});

Deno.test("the Shutdown of a runner that the state does not know is not indexed", () => {
  assert.deepEqual(admit(fold(placed), reported("i:0", "RunnerShutdown")), []);
});

for (const type of ["RunnerFailed", "RunnerShuttingDown"] as const) {
  Deno.test(`${type}: the tasks in flight of its instance fail before that`, () => {
    const state = fold([
      ...placed,
      created(instanceOf("j")),
      reported("i:0", "RunnerRunning"),
      taskCreated(taskOf("t", "i", { taskStatus: "Running" })),
      taskCreated(taskOf("u", "i")),
      taskCreated(taskOf("done", "i", { taskStatus: "Complete" })),
      taskCreated(taskOf("other", "j")),
    ]);
    const report = reported("i:0", type);
    assert.deepEqual(admit(state, report), [
      { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Failed" },
      { type: "TaskStatusUpdated", taskId: "u", taskStatus: "Failed" },
      report,
    ]);
  });
}

Deno.test("a status is indexed only of a task in flight, and only when it is a new one", () => {
  const report = (id: string, taskStatus: "Running" | "Complete"): Event => ({
    type: "TaskStatusUpdated",
    taskId: taskId(id),
    taskStatus,
  });
  const state = fold([
    ...placed,
    taskCreated(taskOf("t", "i", { taskStatus: "Running" })),
    taskCreated(taskOf("gone", "i", { taskStatus: "Cancelled" })),
  ]);
  assert.deepEqual(admit(state, report("t", "Running")), []);
  assert.deepEqual(admit(state, report("t", "Complete")), [report("t", "Complete")]);
  assert.deepEqual(admit(state, report("gone", "Complete")), [], "cancelled it stays");
  assert.deepEqual(admit(state, report("missing", "Complete")), []);
});

Deno.test("a download is indexed only of a known model, and only when it changed", () => {
  const known: Event = { type: "CustomModelCardAdded", modelCard: cardOf() };
  assert.deepEqual(admit(fold([nodeStarted(A)]), downloaded(A)), []);
  assert.deepEqual(admit(fold([known]), downloaded(A)), [], "of a node that is away");
  assert.deepEqual(admit(fold(placed), downloaded(A)), [downloaded(A)], "an instance needs it");
  assert.deepEqual(admit(fold([nodeStarted(A), known]), downloaded(A)), [downloaded(A)]);
  assert.deepEqual(admit(fold([...placed, known, downloaded(A)]), downloaded(A)), []);
});

Deno.test("S6: a newer incarnation of a node takes over at once, an older one says nothing", () => {
  const state = fold([nodeStarted(A, 3)]);
  assert.deepEqual(admit(state, nodeStarted(A, 2)), []);
  assert.deepEqual(admit(state, nodeStarted(A, 3)), []);
  assert.deepEqual(admit(state, nodeStarted(A, 4)), [nodeStarted(A, 4)]);
});

Deno.test("NodeStarted ends what the old incarnation ran: runners, prompts, generations", () => {
  const state = fold([
    nodeStarted(A),
    nodeStarted(B),
    created(instanceOf("i", [A])),
    created(instanceOf("j", [B])),
    reported("i:0", "RunnerReady"),
    reported("j:0", "RunnerReady"),
    taskCreated(taskOf("asked-and-served", "i")),
    taskCreated(taskOf("asked", "j")),
    taskCreated(taskOf("served", "i", { apiNodeId: B })),
    taskCreated(taskOf("ended", "i", { apiNodeId: B, taskStatus: "Complete" })),
    taskCreated(taskOf("neither", "j", { apiNodeId: B })),
  ]);
  const events = admit(state, nodeStarted(A, 2));
  assert.deepEqual(events.at(-1), nodeStarted(A, 2));
  const after = fold(events, state);
  assert.deepEqual([...after.runners.keys()], [runnerId("j:0")]);
  const statuses = [...after.tasks].map(([id, { taskStatus }]) => [id, taskStatus]);
  assert.deepEqual(statuses, [["served", "Failed"], ["ended", "Complete"], ["neither", "Pending"]]);
});

const both = [nodeStarted(A), nodeStarted(B)];

Deno.test("A21: an edge to or from a node that is away is not indexed", () => {
  const state = fold([...both, { type: "NodeTimedOut", nodeId: B }]);
  assert.deepEqual(admit(state, socket(A, B)), []);
  assert.deepEqual(admit(state, socket(B, A)), []);
  assert.deepEqual([...state.nodes.keys()], [A]);
});

Deno.test("an edge is indexed once, from its source, over the network, to another node", () => {
  const state = fold(both);
  assert.deepEqual(admit(state, socket(A, B), A), [socket(A, B)]);
  assert.deepEqual(admit(state, socket(A, B), B), [], "of another's");
  assert.deepEqual(admit(state, socket(A, A), A), [], "to oneself");
  assert.deepEqual(admit(fold([socket(A, B)], state), socket(A, B), A), []);
  const known = fold([socket(A, B)], state);
  const other = socket(A, B, "10.0.0.2");
  assert.deepEqual(admit(known, other, A), [other]);
  const edge = { type: "RdmaConnection" as const, sourceRdmaIface: "a", sinkRdmaIface: "b" };
  const connection = { source: A, sink: B, edge };
  assert.deepEqual(admit(state, { type: "TopologyEdgeCreated", connection }, A), [], "a cable");
});

Deno.test("a node has only so many ways to another", () => {
  const ways = Array.from({ length: EDGES_MAX }, (_, n) => socket(A, B, `10.0.1.${n}`));
  const full = fold([...both, ...ways]);
  assert.deepEqual(admit(full, socket(A, B), A), []);
  assert.equal(admit(fold([...both, ...ways.slice(1)]), socket(A, B), A).length, 1);
});

Deno.test("an edge that is gone is indexed once, from either end, and no cable", () => {
  const { connection } = socket(A, B);
  const report: Event = { type: "TopologyEdgeDeleted", connection };
  const state = fold([...both, socket(A, B)]);
  assert.deepEqual(admit(state, report, A), [report]);
  assert.deepEqual(admit(state, report, B), [report]);
  assert.deepEqual(admit(state, report, C), []);
  assert.deepEqual(admit(fold([report], state), report, A), []);
  const edge = { type: "RdmaConnection" as const, sourceRdmaIface: "a", sinkRdmaIface: "b" };
  const cable = { source: A, sink: B, edge };
  const wired = fold([{ type: "TopologyEdgeCreated", connection: cable }], state);
  assert.deepEqual(admit(wired, { type: "TopologyEdgeDeleted", connection: cable }, A), []);
});

Deno.test("a fact is indexed when it changes something, of the newest start of its own node", () => {
  const report = gathered(A, { type: "MiscData", friendlyName: "Mac" });
  const state = fold(both);
  assert.deepEqual(admit(state, report, A), [report]);
  assert.deepEqual(admit(state, report, B), []);
  assert.deepEqual(admit(fold([report], state), report, A), []);
  const old = fold([nodeStarted(A, 2)], state);
  assert.deepEqual(admit(old, report, A), []);
  assert.deepEqual(admit(fold([nodeStarted(B)]), report, A), []);
});

Deno.test("the same cables are indexed again once the other end is known, and not before", () => {
  const ident = (nodeId: typeof A): Event =>
    gathered(nodeId, {
      type: "MacThunderboltIdentifiers",
      idents: [{ domainUuid: nodeId, rdmaInterface: "rdma_en1", linkSpeed: "" }],
    });
  const on = (nodeId: typeof A): Event =>
    gathered(nodeId, { type: "RdmaCtlStatus", enabled: true });
  const cables = gathered(A, {
    type: "MacThunderboltConnections",
    connections: [{ sourceUuid: A, sinkUuid: B }],
  });
  const one = fold([...both, ident(A), on(A), cables]);
  assert.deepEqual(admit(one, cables, A), []);
  const two = fold([ident(B), on(B)], one);
  assert.deepEqual(admit(two, cables, A), [cables]);
  assert.deepEqual(admit(fold([cables], two), cables, A), []);
});

Deno.test("a node reports of itself alone: its start, its runners, its downloads", () => {
  const state = fold([...both, created(instanceOf("i", [A, B]))]);
  assert.deepEqual(admit(state, nodeStarted(A, 2), B), []);
  assert.deepEqual(admit(state, nodeStarted(A, 2), A), [nodeStarted(A, 2)]);
  const idle = reported("i:1", "RunnerIdle");
  assert.deepEqual(admit(state, idle, A), []);
  assert.deepEqual(admit(state, idle, B), [idle]);
  assert.deepEqual(admit(state, downloaded(A), B), []);
  assert.deepEqual(admit(state, downloaded(A), A), [downloaded(A)]);
});

Deno.test("a status that is known already is not indexed again, whenever it was reported", () => {
  const state = fold([...placed, reported("i:0", "RunnerReady", { at: 1 })]);
  assert.deepEqual(admit(state, reported("i:0", "RunnerReady", { at: 2 })), []);
  const pace: Event = {
    ...reported("i:0", "RunnerReady"),
    status: { type: "RunnerReady", prefillTokensPerSecond: 700 },
  };
  assert.deepEqual(admit(state, pace), [pace]);
});

Deno.test("a process that has failed says nothing new once its instance is tried again", () => {
  const retrying: Event = {
    type: "InstanceRetrying",
    instanceId: instanceId("i"),
    failureError: "OOM",
    notBefore: 1,
  };
  const state = fold([...placed, reported("i:0", "RunnerFailed", { incarnation: 3 }), retrying]);
  assert.deepEqual(admit(state, reported("i:0", "RunnerFailed", { incarnation: 3 })), []);
  assert.deepEqual(admit(state, reported("i:0", "RunnerLoading", { incarnation: 2 })), []);
  const next = reported("i:0", "RunnerIdle", { incarnation: 4 });
  assert.deepEqual(admit(state, next), [next]);
});

Deno.test("a process that is gone without a word fails what it worked on, too", () => {
  const task = taskCreated(taskOf("t", "i"));
  const state = fold([...placed, reported("i:0", "RunnerReady"), task]);
  const failed = { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Failed" };
  for (
    const report of [
      reported("i:0", "RunnerShutdown"),
      reported("i:0", "RunnerIdle", { incarnation: 2 }),
    ]
  ) {
    assert.deepEqual(admit(state, report), [failed, report]);
  }
  const running = reported("i:0", "RunnerRunning");
  assert.deepEqual(admit(state, running), [running]);
});

Deno.test("a task's status comes from who computes it or asked for it, and goes on only", () => {
  const status = (taskStatus: "Pending" | "Running" | "TimedOut"): Event => ({
    type: "TaskStatusUpdated",
    taskId: taskId("t"),
    taskStatus,
  });
  const state = fold([
    ...both,
    nodeStarted(C),
    created(instanceOf("i", [A])),
    taskCreated(taskOf("t", "i", { apiNodeId: B })),
  ]);
  assert.deepEqual(admit(state, status("Running"), A), [status("Running")]);
  assert.deepEqual(admit(state, status("TimedOut"), B), [status("TimedOut")]);
  assert.deepEqual(admit(state, status("Running"), C), []);
  const running = fold([status("Running")], state);
  assert.deepEqual(admit(running, status("Pending"), A), [], "it does not go back");
  const failed: Event = {
    type: "TaskFailed",
    taskId: taskId("t"),
    errorType: "RunnerError",
    errorMessage: "OOM",
  };
  assert.deepEqual(admit(running, failed, A), [failed]);
  assert.deepEqual(admit(running, failed, C), []);
  assert.deepEqual(admit(fold([failed], running), failed, A), []);
  const orphan = fold([{ type: "InstanceDeleted", instanceId: instanceId("i") }], running);
  assert.deepEqual(admit(orphan, failed, A), [], "it computes nothing of it any more");
});

Deno.test("a task is forgotten by who asked for it", () => {
  const report: Event = { type: "TaskDeleted", taskId: taskId("t") };
  const task = taskCreated(taskOf("t", "i", { apiNodeId: B }));
  const state = fold([...both, created(instanceOf("i", [A])), task]);
  assert.deepEqual(admit(state, report, B), [report]);
  assert.deepEqual(admit(state, report, A), []);
  assert.deepEqual(admit(fold([report], state), report, B), []);
});

Deno.test("of models that nobody uses here it is known which are there, and that they go", () => {
  const bundled = ModelId.parse("org/bundled");
  const state = fold([nodeStarted(A)]);
  const report = (type: "DownloadPending" | "DownloadOngoing"): Event => ({
    type: "NodeDownloadProgress",
    nodeId: A,
    modelId: bundled,
    status: { type },
  });
  assert.deepEqual(admit(state, report("DownloadOngoing")), []);
  assert.deepEqual(admit(state, report("DownloadPending")), []);
  const complete = downloaded(A, bundled);
  assert.deepEqual(admit(state, complete), [complete]);
  const there = fold([complete], state);
  assert.deepEqual(admit(there, complete), []);
  const pending = report("DownloadPending");
  assert.deepEqual(admit(there, pending), [pending]);
  const gone = fold([pending], there);
  assert.equal(gone.downloads.size, 0);
  assert.deepEqual(admit(gone, pending), []);
});

Deno.test("what only a master decides is never admitted, whoever reports it", () => {
  const decided: Event[] = [
    { type: "EpochStarted" },
    { type: "NodeTimedOut", nodeId: A },
    created(instanceOf("new")),
    { type: "InstanceDeleted", instanceId: instanceId("i") },
    { type: "InstanceRetriesReset", instanceId: instanceId("i") },
    taskCreated(taskOf("new", "i")),
    { type: "CustomModelCardAdded", modelCard: cardOf() },
    { type: "CustomModelCardDeleted", modelId: MODEL },
    metaCreated(metaOf("m")),
    {
      type: "LineageMerged",
      segments: [],
      modelCards: [],
      metaInstances: [],
      instances: [],
      links: [],
      deleted: [],
    },
  ];
  const state = fold([...placed, nodeStarted(B)]);
  for (const event of decided) assert.deepEqual(admit(state, event, A), [], event.type);
});

const nodeLeft = (incarnation = 1): Event => ({ type: "NodeLeft", nodeId: A, incarnation });

Deno.test("a node that leaves takes its runners and its clients' tasks along, and is named", () => {
  const state = fold([
    ...placed,
    nodeStarted(B),
    created(instanceOf("j", [B])),
    reported("i:0", "RunnerReady"),
    taskCreated(taskOf("served", "i", { apiNodeId: B })),
    taskCreated(taskOf("asked", "j", { apiNodeId: A })),
    taskCreated(taskOf("other", "j", { apiNodeId: B })),
  ]);
  assert.deepEqual(admit(state, nodeLeft(), B), []);
  const after = fold(admit(state, nodeLeft(), A), state);
  assert.deepEqual([...after.nodes.keys()], [B]);
  assert.equal(after.runners.size, 0);
  assert.deepEqual([...after.tasks.keys()], ["served", "other"].map((id) => taskId(id)));
  assert.equal(
    after.tasks.get(taskId("served"))?.errorMessage,
    'Node "node-a" was lost while it served the request: it was stopped',
  );
  // Nobody made it for a wish: it waits.
  assert.equal(after.instances.size, 2);
  assert.deepEqual(admit(after, nodeLeft(), A), []);
});

Deno.test("what wishes had on a node that leaves goes with it, what they had elsewhere stays", () => {
  const bound = (id: string, nodeId: typeof A): Event => {
    const metaInstanceId = metaOf("m").metaInstanceId;
    return created({ ...instanceOf(id, [nodeId]), metaInstanceId });
  };
  const state = fold([
    nodeStarted(A),
    nodeStarted(B),
    metaCreated(metaOf("m")),
    bound("here", A),
    bound("there", B),
  ]);
  const after = fold(admit(state, nodeLeft(), A), state);
  assert.deepEqual([...after.instances.keys()], ["there"]);
  assert.equal(after.metaInstances.size, 1);
});

Deno.test("word of a leaving that comes late does nothing to the process that came after", () => {
  const state = fold([nodeStarted(A, 2)]);
  assert.deepEqual(admit(state, nodeLeft(1), A), []);
  assert.deepEqual(admit(state, nodeLeft(2), A), [nodeLeft(2)]);
  // Its start was not heard of; that it is gone is known all the same.
  assert.deepEqual(admit(state, nodeLeft(3), A), [nodeLeft(3)]);
});

Deno.test("a runner of a node that is gone is not there either", () => {
  const state = fold([...placed, { type: "NodeTimedOut", nodeId: A }]);
  assert.deepEqual(admit(state, reported("i:0", "RunnerReady"), A), []);
});
