import assert from "node:assert/strict";
import { admit } from "../../core/admission.ts";
import type { Event } from "../../core/events.ts";
import {
  A,
  B,
  cardOf,
  created,
  downloaded,
  fold,
  instanceId,
  instanceOf,
  nodeStarted,
  reported,
  runnerId,
  taskCreated,
  taskId,
  taskOf,
} from "../support/cluster.ts";

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

Deno.test("a failed runner fails the tasks in flight of its instance, before itself", () => {
  const state = fold([
    ...placed,
    created(instanceOf("j")),
    reported("i:0", "RunnerRunning"),
    taskCreated(taskOf("t", "i", { taskStatus: "Running" })),
    taskCreated(taskOf("u", "i")),
    taskCreated(taskOf("done", "i", { taskStatus: "Complete" })),
    taskCreated(taskOf("other", "j")),
  ]);
  const report = reported("i:0", "RunnerFailed");
  assert.deepEqual(admit(state, report), [
    { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Failed" },
    { type: "TaskStatusUpdated", taskId: "u", taskStatus: "Failed" },
    report,
  ]);
});

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
