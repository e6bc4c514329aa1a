import assert from "node:assert/strict";
import type { Event } from "../../core/events.ts";
import type { MetaInstance } from "../../core/meta_instance.ts";
import { encodeState, type State } from "../../core/state.ts";
import {
  A,
  B,
  cardOf,
  created,
  fold,
  instanceId,
  instanceOf,
  nodeStarted,
  reported,
  runnerId,
  taskCreated,
  taskId,
  taskOf,
} from "../support/fixtures.ts";
import { boundTo, metaCreated, metaId, metaOf } from "../support/control_plane.ts";

const m = metaId("m");
const bound = boundTo("m", instanceOf("i", [A, B]));
const placementFailed = (reason: string): Event => ({
  type: "MetaInstancePlacementFailed",
  metaInstanceId: m,
  reason,
});
const deleted = (failureError?: string): Event => ({
  type: "InstanceDeleted",
  instanceId: instanceId("i"),
  ...(failureError === undefined ? {} : { failureError }),
});
const retrying = (failureError: string): Event => ({
  type: "InstanceRetrying",
  instanceId: instanceId("i"),
  failureError,
  notBefore: 2_000,
});
/** A wish with failures behind it, and its instance. */
const failing = (fields: Partial<MetaInstance> = {}) =>
  fold([
    created(bound),
    metaCreated(metaOf("m", { consecutiveFailures: 2, lastFailureError: "previous", ...fields })),
  ]);
const metaIn = (state: State) => {
  const meta = state.metaInstances.get(m);
  assert.ok(meta);
  return meta;
};

Deno.test("A12: a meta-instance is created, then deleted; what is missing is not missed", () => {
  const state = fold([metaCreated(metaOf("m"))]);
  assert.deepEqual([...state.metaInstances.values()], [metaOf("m")]);
  assert.deepEqual([...state.stamps.keys()], ["meta:m"]);
  const gone = fold([{ type: "MetaInstanceDeleted", metaInstanceId: m }], state);
  assert.equal(gone.metaInstances.size + gone.stamps.size, 0);
  const missed: Event[] = [
    { type: "MetaInstanceDeleted", metaInstanceId: m },
    placementFailed("x"),
    { type: "MetaInstanceReady", metaInstanceId: m },
    { type: "MetaInstanceParked", metaInstanceId: m, reason: "x" },
    { type: "MetaInstanceRearmed", metaInstanceId: m },
    { type: "MetaInstanceCardResolved", metaInstanceId: m, modelCard: cardOf() },
  ];
  const { lastEventAppliedIdx: _, ...rest } = fold(missed, gone);
  assert.deepEqual({ ...rest, lastEventAppliedIdx: 1 }, gone);
});

Deno.test("A13: the end of a bound instance for a reason counts as a failure of its wish", () => {
  const meta = metaIn(fold([deleted("new")], failing({ nextAttemptAt: 5 })));
  assert.equal(meta.consecutiveFailures, 3);
  assert.equal(meta.lastFailureError, "new");
  assert.equal(meta.phase, "placing");
  assert.equal(meta.nextAttemptAt, undefined);
});

Deno.test("A14: an end without a reason, or of an instance of no wish, counts for nothing", () => {
  for (const end of [deleted(), deleted("")]) {
    const meta = metaIn(fold([end], failing()));
    assert.deepEqual([meta.consecutiveFailures, meta.lastFailureError], [2, "previous"]);
  }
  const unbound = fold([created(instanceOf("i"))], failing());
  assert.equal(metaIn(fold([deleted("x")], unbound)).consecutiveFailures, 2);
});

Deno.test("A15, changed by D14: a bound instance clears the placement error, not the counter", () => {
  const state = failing({ consecutiveFailures: 3, placementError: "no room", nextAttemptAt: 5 });
  const meta = metaIn(fold([created(boundTo("m", instanceOf("j")))], state));
  assert.equal(meta.placementError, undefined);
  assert.equal(meta.nextAttemptAt, undefined);
  assert.equal(meta.consecutiveFailures, 3);
  assert.equal(meta.lastFailureError, "previous");
  assert.deepEqual([meta.phase, meta.instancesCreated], ["starting", 1]);
});

Deno.test("A16: InstanceRetrying keeps a bound instance, drops its runners, and its wish counts", () => {
  const state = fold([
    reported("i:0", "RunnerFailed", { incarnation: 7 }),
    reported("i:1", "RunnerReady", { incarnation: 8 }),
  ], failing());
  const after = fold([retrying("OOM")], state);
  assert.ok(after.instances.has(instanceId("i")));
  assert.equal(after.runners.size, 0);
  const { consecutiveFailures, lastFailureError, phase, nextAttemptAt } = metaIn(after);
  assert.deepEqual([consecutiveFailures, lastFailureError], [3, "OOM"]);
  assert.deepEqual([phase, nextAttemptAt], ["retrying", 2_000]);
  const retry = after.instanceRetries.get(instanceId("i"));
  assert.deepEqual(retry?.incarnations, { "i:0": 7, "i:1": 8 }, "what they still say is past");
  const silent = fold([retrying("OOM")], failing());
  assert.equal(metaIn(silent).consecutiveFailures, 3, "without a status, too");
});

Deno.test("A17: InstanceRetrying of a missing instance does not count for the wish either", () => {
  const gone = fold([deleted()], failing());
  assert.equal(metaIn(fold([retrying("late")], gone)).consecutiveFailures, 2);
});

Deno.test("A18: a failed placement is noted, and is no failure of an instance", () => {
  const meta = metaIn(fold([metaCreated(metaOf("m")), placementFailed("Not enough memory")]));
  assert.deepEqual(meta, metaOf("m", { placementError: "Not enough memory" }));
});

Deno.test("A19: two wishes for one model are two", () => {
  const state = fold([metaCreated(metaOf("m")), metaCreated(metaOf("n")), placementFailed("x")]);
  assert.deepEqual([...state.metaInstances.values()], [
    metaOf("m", { placementError: "x" }),
    metaOf("n"),
  ]);
});

Deno.test("A20: a wish goes with its instance; the task stays as cancelled", () => {
  const state = fold([
    metaCreated(metaOf("m")),
    created(bound),
    taskCreated(taskOf("t", "i", { taskStatus: "Running" })),
    { type: "MetaInstanceDeleted", metaInstanceId: m },
    { type: "TaskStatusUpdated", taskId: taskId("t"), taskStatus: "Cancelled" },
    deleted(),
  ]);
  assert.equal(state.metaInstances.size + state.instances.size + state.stamps.size, 0);
  assert.equal(state.tasks.get(taskId("t"))?.taskStatus, "Cancelled");
});

Deno.test("a wish remembers its card, that it is served, and why it is parked", () => {
  const at = (state: State, event: Event) => metaIn(fold([event], state));
  const start = failing({ nextAttemptAt: 5 });
  const resolved = at(start, {
    type: "MetaInstanceCardResolved",
    metaInstanceId: m,
    modelCard: cardOf(),
  });
  assert.deepEqual(resolved.modelCard, cardOf());
  const ready = at(start, { type: "MetaInstanceReady", metaInstanceId: m });
  assert.deepEqual([ready.phase, ready.nextAttemptAt], ["ready", undefined]);
  const parked = at(fold([nodeStarted(A)], start), {
    type: "MetaInstanceParked",
    metaInstanceId: m,
    reason: "OOM",
  });
  assert.deepEqual([parked.phase, parked.lastFailureError], ["parked", "OOM"]);
  assert.deepEqual([parked.nextAttemptAt, parked.parkedAtTopologyIdx], [undefined, 2]);
});

Deno.test("a wish is starting again once a runner of its instance serves no more", () => {
  const ready: Event = { type: "MetaInstanceReady", metaInstanceId: m };
  const serving = fold([reported("i:0", "RunnerReady"), ready], failing());
  const after = (event: Event, state = serving) => metaIn(fold([event], state)).phase;
  assert.equal(after(reported("i:0", "RunnerRunning")), "ready");
  assert.equal(after(reported("i:0", "RunnerIdle")), "starting", "its node has started again");
  assert.equal(after(reported("i:0", "RunnerShutdown")), "starting");
  assert.equal(after(reported("i:1", "RunnerLoading")), "ready", "that one has not served");
  const parked: Event = { type: "MetaInstanceParked", metaInstanceId: m, reason: "OOM" };
  assert.equal(after(reported("i:0", "RunnerIdle"), fold([parked], serving)), "parked");
  const alone = fold([created(instanceOf("j", [A])), reported("j:0", "RunnerReady")], serving);
  assert.equal(after(reported("j:0", "RunnerIdle"), alone), "ready", "an instance of no wish");
});

Deno.test("a parked wish stays parked when its instance ends", () => {
  const parked = fold(
    [{ type: "MetaInstanceParked", metaInstanceId: m, reason: "OOM" }],
    failing(),
  );
  const meta = metaIn(fold([deleted("OOM")], parked));
  assert.deepEqual([meta.phase, meta.consecutiveFailures], ["parked", 3]);
});

Deno.test("re-arming forgets the failures and ends the wait, but not which processes failed", () => {
  const rearmed: Event = { type: "MetaInstanceRearmed", metaInstanceId: m };
  const waiting = fold([
    reported("i:0", "RunnerFailed", { incarnation: 7 }),
    retrying("OOM"),
    created(instanceOf("other")),
    { type: "MetaInstanceParked", metaInstanceId: m, reason: "OOM" },
  ], failing());
  const state = fold([rearmed], waiting);
  const { phase, consecutiveFailures, parkedAtTopologyIdx } = metaIn(state);
  assert.deepEqual([phase, consecutiveFailures, parkedAtTopologyIdx], ["starting", 0, undefined]);
  const retry = { attempts: 0, notBefore: 0, lastError: "OOM", incarnations: { "i:0": 7 } };
  assert.deepEqual(state.instanceRetries.get(instanceId("i")), retry);
  assert.equal(metaIn(fold([deleted(), rearmed], waiting)).phase, "placing");
});

Deno.test("a long time of service forgets the failures of the wish, too", () => {
  const reset: Event = { type: "InstanceRetriesReset", instanceId: instanceId("i") };
  assert.equal(metaIn(fold([retrying("OOM"), reset], failing())).consecutiveFailures, 0);
});

Deno.test("the fate of a wish is none of another's", () => {
  const other = metaCreated(metaOf("n"));
  const state = fold([other, deleted("new"), placementFailed("x")], failing());
  assert.deepEqual(state.metaInstances.get(metaId("n")), metaOf("n"));
  assert.equal(state.runners.has(runnerId("i:0")), false);
  assert.ok(encodeState(state).includes("new"));
});
