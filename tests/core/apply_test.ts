import assert from "node:assert/strict";
import { apply } from "../../core/apply.ts";
import type { Event } from "../../core/events.ts";
import { ModelId } from "../../core/ids.ts";
import { EMPTY_STATE, encodeState, type State } from "../../core/state.ts";
import { linkCreated, linkId } from "../support/control_plane.ts";
import {
  A,
  B,
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

const epoch = { clock: 1, nodeId: A };
const retrying = (id: string, failureError = "OOM", notBefore = 2_000): Event => ({
  type: "InstanceRetrying",
  instanceId: instanceId(id),
  failureError,
  notBefore,
});

/** A state but for how far it has come, and by whom. */
function withoutHistory(state: State): State {
  const { lastEventAppliedIdx, lineage, topologyIdx } = EMPTY_STATE;
  return { ...state, lastEventAppliedIdx, lineage, topologyIdx };
}

Deno.test("A1: a custom model card is added, then deleted", () => {
  const added = fold([{ type: "CustomModelCardAdded", modelCard: cardOf() }]);
  assert.deepEqual([...added.customModelCards.keys()], [MODEL]);
  const deleted = fold([{ type: "CustomModelCardDeleted", modelId: MODEL }], added);
  assert.equal(deleted.customModelCards.size, 0);
  assert.equal(deleted.lastEventAppliedIdx, 1);
});

Deno.test("A2: a link is replaced by one of the same id", () => {
  const state = fold([linkCreated("L", ["a"], ["b"]), linkCreated("L", ["a"], ["b", "c"])]);
  assert.deepEqual([...state.instanceLinks.values()], [linkCreated("L", ["a"], ["b", "c"]).link]);
  assert.deepEqual(state.stamps.get("link:L"), { epoch, idx: 1 });
  const gone = fold([{ type: "InstanceLinkDeleted", linkId: linkId("L") }], state);
  assert.equal(gone.instanceLinks.size + gone.stamps.size, 0);
});

/** Three instances, and a link between some of them. */
const linked = (...link: Parameters<typeof linkCreated>) =>
  fold([...["a", "b", "c"].map((id) => created(instanceOf(id))), linkCreated(...link)]);
const endOfA: Event = { type: "InstanceDeleted", instanceId: instanceId("a") };

Deno.test("A3: a link goes on without an instance that ends, at either end", () => {
  const { instanceLinks } = fold([endOfA], linked("L", ["a", "c"], ["b"]));
  assert.deepEqual([...instanceLinks.values()], [linkCreated("L", ["c"], ["b"]).link]);
  const decoding = fold([endOfA], linked("L", ["b"], ["a", "c"]));
  assert.deepEqual([...decoding.instanceLinks.values()], [linkCreated("L", ["b"], ["c"]).link]);
  const state = linked("L", ["c"], ["b"]);
  assert.equal(fold([endOfA], state).instanceLinks, state.instanceLinks, "no link of its");
});

Deno.test("A4: a link ends with the last instance at one of its ends, at either end", () => {
  for (const [prefill, decode] of [["a", "b"], ["b", "a"]] as const) {
    const state = fold([endOfA], linked("L", [prefill], [decode]));
    assert.equal(state.instanceLinks.size, 0);
    assert.equal(state.stamps.has("link:L"), false);
  }
});

Deno.test("A5: a second report of a download replaces the first in its place", () => {
  const other = ModelId.parse("other");
  const failed = { type: "DownloadFailed" as const, errorMessage: "gone" };
  const state = fold([
    downloaded(A),
    downloaded(A, other),
    { type: "NodeDownloadProgress", nodeId: A, modelId: MODEL, status: failed },
  ]);
  const models = [...state.downloads.get(A) ?? []];
  assert.deepEqual(models.map(([modelId]) => modelId), [MODEL, other]);
  assert.deepEqual(models[0]?.[1], failed);
});

Deno.test("A6: Shutdown removes a runner", () => {
  const before = fold([created(instanceOf("i")), reported("i:0", "RunnerIdle")]);
  assert.ok(before.runners.has(runnerId("i:0")));
  const after = fold([reported("i:0", "RunnerShutdown")], before);
  assert.equal(after.runners.size, 0);
});

Deno.test("A11: apply() rejects a gap in the index, and a repeat, and leaves the state", () => {
  const state = fold([nodeStarted(A), nodeStarted(A, 2), nodeStarted(A, 3), nodeStarted(A, 4)]);
  const before = encodeState(state);
  for (const idx of [5, 3, 0]) {
    assert.throws(
      () => apply(state, { idx, epoch, event: nodeStarted(A, 5) }),
      /cannot apply event \d \(NodeStarted\): event 4 is due/,
    );
  }
  assert.equal(encodeState(state), before);
});

Deno.test("A16: InstanceRetrying keeps the instance, drops its runners, counts and dates", () => {
  const state = fold([
    created(instanceOf("i")),
    created(instanceOf("j")),
    reported("i:0", "RunnerFailed"),
    reported("j:0", "RunnerReady"),
    retrying("i", "OOM", 2_000),
  ]);
  assert.ok(state.instances.has(instanceId("i")));
  assert.deepEqual([...state.runners.keys()], ["j:0"]);
  const incarnations = { "i:0": 1 };
  const retry = { attempts: 1, notBefore: 2_000, lastError: "OOM", incarnations };
  assert.deepEqual(state.instanceRetries.get(instanceId("i")), retry);
  const again = fold([retrying("i", "again", 6_000)], state);
  const second = { attempts: 2, notBefore: 6_000, lastError: "again", incarnations };
  assert.deepEqual(again.instanceRetries.get(instanceId("i")), second);
});

Deno.test("A17: InstanceRetrying of a missing instance changes nothing and counts nothing", () => {
  const state = fold([retrying("i")]);
  assert.deepEqual(withoutHistory(state), EMPTY_STATE);
});

Deno.test("InstanceRetriesReset forgets the failures", () => {
  const reset: Event = { type: "InstanceRetriesReset", instanceId: instanceId("i") };
  const state = fold([created(instanceOf("i")), retrying("i"), reset]);
  assert.equal(state.instanceRetries.size, 0);
  assert.equal(state.instances.size, 1);
});

Deno.test("InstanceDeleted takes the instance's runners and retries along, not its tasks", () => {
  const state = fold([
    created(instanceOf("i")),
    created(instanceOf("j")),
    retrying("i"),
    reported("i:0", "RunnerIdle"),
    reported("j:0", "RunnerIdle"),
    taskCreated(taskOf("t", "i")),
    { type: "TaskStatusUpdated", taskId: taskId("t"), taskStatus: "Cancelled" },
    { type: "InstanceDeleted", instanceId: instanceId("i") },
  ]);
  assert.deepEqual([...state.instances.keys()], ["j"]);
  assert.deepEqual([...state.runners.keys()], ["j:0"]);
  assert.equal(state.instanceRetries.size, 0);
  assert.equal(state.tasks.get(taskId("t"))?.taskStatus, "Cancelled");
});

Deno.test("deleting what is not there is a no-op", () => {
  const state = fold([
    { type: "InstanceDeleted", instanceId: instanceId("i"), failureError: "x" },
    { type: "TaskDeleted", taskId: taskId("t") },
    { type: "CustomModelCardDeleted", modelId: MODEL },
    { type: "InstanceRetriesReset", instanceId: instanceId("i") },
    { type: "TaskStatusUpdated", taskId: taskId("t"), taskStatus: "Failed" },
    reported("i:0", "RunnerShutdown"),
  ]);
  assert.deepEqual(withoutHistory(state), EMPTY_STATE);
});

Deno.test("a deleted card takes its downloads along, on every node, and no other's", () => {
  const other = ModelId.parse("other");
  const state = fold([
    downloaded(A),
    downloaded(A, other),
    { type: "CustomModelCardDeleted", modelId: MODEL },
  ]);
  assert.deepEqual([...state.downloads.get(A)?.keys() ?? []], [other]);
  const empty = fold([{ type: "CustomModelCardDeleted", modelId: other }], state);
  assert.equal(empty.downloads.size, 0);
});

Deno.test("Ready and Running count as one: `since` goes on until the incarnation changes", () => {
  const since = (...events: Event[]) => fold(events).runners.get(runnerId("i:0"))?.since;
  const idle = reported("i:0", "RunnerIdle", { at: 1 });
  const ready = reported("i:0", "RunnerReady", { at: 5 });
  const running = reported("i:0", "RunnerRunning", { at: 9 });
  assert.equal(since(idle, ready), 5);
  assert.equal(since(idle, ready, running), 5);
  const next = reported("i:0", "RunnerRunning", { at: 9, incarnation: 2 });
  assert.equal(since(idle, ready, next), 9);
});

Deno.test("apply() leaves the state it was given as it was", () => {
  const state = fold([created(instanceOf("i")), reported("i:0", "RunnerReady")]);
  const before = encodeState(state);
  fold([retrying("i"), downloaded(A), { type: "InstanceDeleted", instanceId: instanceId("i") }], {
    ...state,
  });
  assert.equal(encodeState(state), before);
});

Deno.test("a failed task says why, until it is something else", () => {
  const failed: Event = {
    type: "TaskFailed",
    taskId: taskId("t"),
    errorType: "RunnerError",
    errorMessage: "OOM",
  };
  const status = (taskStatus: "Failed" | "Cancelled"): Event => ({
    type: "TaskStatusUpdated",
    taskId: taskId("t"),
    taskStatus,
  });
  const error = { errorType: "RunnerError", errorMessage: "OOM" };
  const state = fold([taskCreated(taskOf("t", "i")), failed, status("Failed")]);
  assert.deepEqual(
    state.tasks.get(taskId("t")),
    taskOf("t", "i", { taskStatus: "Failed", ...error }),
  );
  const after = fold([status("Cancelled")], state).tasks.get(taskId("t"));
  assert.deepEqual(after, taskOf("t", "i", { taskStatus: "Cancelled" }));
  assert.equal(fold([failed]).tasks.size, 0, "an unknown one is not missed");
});

Deno.test("how fast a runner prefills for others holds while it serves, and no longer", () => {
  const pace = (...events: Event[]) =>
    fold(events).runners.get(runnerId("i:0"))?.prefillTokensPerSecond;
  const ready: Event = {
    ...reported("i:0", "RunnerReady"),
    status: { type: "RunnerReady", prefillTokensPerSecond: 700 },
  };
  assert.equal(pace(ready, reported("i:0", "RunnerRunning")), 700);
  assert.equal(
    pace(ready, reported("i:0", "RunnerRunning"), reported("i:0", "RunnerReady")),
    undefined,
  );
  assert.equal(pace(ready, reported("i:0", "RunnerFailed")), undefined);
  assert.equal(pace(ready, reported("i:0", "RunnerRunning", { incarnation: 2 })), undefined);
});

Deno.test("apply() refuses an event of an epoch that is over", () => {
  const state = fold([nodeStarted(A)]);
  const event = nodeStarted(A, 2);
  const next = apply(state, {
    idx: 1,
    epoch: { clock: 2, nodeId: B },
    event: { type: "EpochStarted" },
  });
  assert.equal(next.lineage.segments.length, 2);
  assert.throws(() => apply(next, { idx: 2, epoch, event }), /epoch 1: epoch 2 reigns/);
});

Deno.test("a download that only an instance waited for goes with the last that did", () => {
  const ongoing: Event = {
    type: "NodeDownloadProgress",
    nodeId: A,
    modelId: MODEL,
    status: { type: "DownloadOngoing" },
  };
  const pending: Event = { ...ongoing, status: { type: "DownloadPending" } };
  const end = (id: string): Event => ({ type: "InstanceDeleted", instanceId: instanceId(id) });
  const two = [nodeStarted(A), created(instanceOf("i")), created(instanceOf("j"))];
  const downloads = (...events: Event[]) => [...fold([...two, ...events]).downloads.get(A) ?? []];
  assert.equal(downloads(ongoing, end("i")).length, 1);
  assert.equal(downloads(ongoing, end("i"), end("j")).length, 0);
  assert.equal(downloads(downloaded(A), end("i"), end("j")).length, 1, "the files are still there");
  assert.equal(downloads(downloaded(A), end("i"), end("j"), pending).length, 0, "they are gone");
  assert.equal(downloads(pending).length, 1, "somebody waits for it");
});
