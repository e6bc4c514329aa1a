import assert from "node:assert/strict";
import type { Event } from "../../core/events.ts";
import {
  INSTANCE_ATTEMPTS_MAX,
  isRetryDue,
  nextReconcileAt,
  reconcile,
  RETRY_DELAY_MS_MAX,
  RETRY_RESET_MS,
  retryDelayMs,
} from "../../core/reconcile.ts";
import {
  A,
  B,
  C,
  created,
  fold,
  instanceId,
  instanceOf,
  reconcileContext,
  reported,
  taskCreated,
  taskOf,
} from "../support/cluster.ts";

const NOW = 1_000_000;

/** What `reconcile` says of one instance whose runners are in these statuses. */
function health(...reports: Event[]): Event[] {
  const nodes = [A, B, C].slice(0, Math.max(1, reports.length));
  return reconcile(
    fold([created(instanceOf("i", nodes)), ...reports]),
    reconcileContext({ now: NOW }),
  );
}

const retrying = (failureError: string, notBefore = NOW + 2_000, id = "i"): Event => ({
  type: "InstanceRetrying",
  instanceId: instanceId(id),
  failureError,
  notBefore,
});

Deno.test("H4: failed runners, alone or with stopped ones, are a failure with its text", () => {
  assert.deepEqual(health(reported("i:0", "RunnerFailed")), [retrying("OOM")]);
  const both = health(reported("i:0", "RunnerFailed"), reported("i:1", "RunnerFailed"));
  assert.deepEqual(both, [retrying("OOM; OOM")]);
  // Shutdown removes a runner from the state, so the sibling is absent here.
  const one = health(reported("i:0", "RunnerFailed"), reported("i:1", "RunnerShutdown"));
  assert.deepEqual(one, [retrying("OOM")]);
});

Deno.test("H5: stopped, absent, alive and ready runners are no failure", () => {
  assert.deepEqual(health(reported("i:0", "RunnerShutdown")), []);
  assert.deepEqual(health(reported("i:0", "RunnerFailed"), reported("i:1", "RunnerLoading")), []);
  assert.deepEqual(health(), []);
  assert.deepEqual(health(reported("i:0", "RunnerReady")), []);
});

Deno.test("H6: a failure without a word is `Runner failed`", () => {
  assert.deepEqual(health(reported("i:0", "RunnerFailed", { reason: "" })), [
    retrying("Runner failed"),
  ]);
});

Deno.test("H7: the reasons of all failed runners are joined, in the order of their ranks", () => {
  const events = health(
    reported("i:2", "RunnerFailed", { reason: "three" }),
    reported("i:0", "RunnerFailed", { reason: "one" }),
    reported("i:1", "RunnerFailed", { reason: "two" }),
  );
  assert.deepEqual(events, [retrying("one; two; three")]);
});

Deno.test("the delays double from 2 s and stop at 60 s", () => {
  const delays = Array.from({ length: INSTANCE_ATTEMPTS_MAX }, (_, n) => retryDelayMs(n) / 1_000);
  assert.deepEqual(delays, [2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
});

Deno.test("H9: an instance is retried 10 times; the 11th failure deletes it and its tasks", () => {
  let state = fold([created(instanceOf("i"))]);
  const waits: number[] = [];
  for (let attempt = 1; attempt <= INSTANCE_ATTEMPTS_MAX; attempt++) {
    state = fold([reported("i:0", "RunnerFailed", { incarnation: attempt })], state);
    const events = reconcile(state, reconcileContext({ now: NOW }));
    assert.equal(events.length, 1);
    const [event] = events;
    assert.ok(event?.type === "InstanceRetrying");
    waits.push((event.notBefore - NOW) / 1_000);
    state = fold(events, state);
    assert.deepEqual(
      reconcile(state, reconcileContext({ now: NOW })),
      [],
      "content until the next failure",
    );
  }
  assert.deepEqual(waits, [2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
  state = fold([
    taskCreated(taskOf("t", "i")),
    reported("i:0", "RunnerFailed", { incarnation: 11, reason: "last" }),
  ], state);
  assert.deepEqual(reconcile(state, reconcileContext({ now: NOW })), [
    { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Cancelled" },
    { type: "InstanceDeleted", instanceId: "i", failureError: "last" },
  ]);
});

Deno.test("H12: of several instances each failing one gets its event, a healthy one none", () => {
  const state = fold([
    ...["healthy", "x", "y"].map((id) => created(instanceOf(id))),
    reported("healthy:0", "RunnerReady"),
    reported("x:0", "RunnerFailed"),
    reported("y:0", "RunnerFailed"),
  ]);
  const first = reconcile(state, reconcileContext({ now: NOW }));
  assert.deepEqual(first, [retrying("OOM", NOW + 2_000, "x")]);
  const second = reconcile(fold(first, state), reconcileContext({ now: NOW }));
  assert.deepEqual(second, [retrying("OOM", NOW + 2_000, "y")]);
  assert.deepEqual(
    reconcile(fold([...first, ...second], state), reconcileContext({ now: NOW })),
    [],
  );
});

Deno.test("failures are forgotten after a minute of serving, and not before", () => {
  const state = fold([
    created(instanceOf("i")),
    retrying("OOM", 0),
    reported("i:0", "RunnerReady", { at: NOW }),
    reported("i:0", "RunnerRunning", { at: NOW + 30_000 }),
  ]);
  const at = NOW + RETRY_RESET_MS;
  assert.equal(nextReconcileAt(state), at);
  assert.deepEqual(reconcile(state, reconcileContext({ now: at - 1 })), []);
  const reset: Event = { type: "InstanceRetriesReset", instanceId: instanceId("i") };
  assert.deepEqual(reconcile(state, reconcileContext({ now: at })), [reset]);
  const after = fold([reset], state);
  assert.equal(nextReconcileAt(after), undefined);
  const failed = reconcile(
    fold([reported("i:0", "RunnerFailed")], after),
    reconcileContext({ now: at }),
  );
  assert.deepEqual(failed, [retrying("OOM", at + 2_000)]);
});

Deno.test("the minute counts from when the last rank began to serve", () => {
  const state = fold([
    created(instanceOf("i", [A, B])),
    retrying("OOM", 0),
    reported("i:0", "RunnerReady", { at: NOW }),
    reported("i:1", "RunnerReady", { at: NOW + 500 }),
  ]);
  assert.equal(nextReconcileAt(state), NOW + 500 + RETRY_RESET_MS);
});

Deno.test("nextReconcileAt() is never while nothing failed or nothing serves", () => {
  assert.equal(nextReconcileAt(fold([])), undefined);
  const healthy = [created(instanceOf("i")), reported("i:0", "RunnerReady")];
  assert.equal(nextReconcileAt(fold(healthy)), undefined);
  assert.equal(nextReconcileAt(fold([created(instanceOf("i")), retrying("OOM", 0)])), undefined);
});

Deno.test("a retry is due at its date, and at once when a clock that was turned back set it", () => {
  const notBefore = NOW + 2_000;
  assert.equal(isRetryDue({ notBefore }, NOW), false);
  assert.equal(isRetryDue({ notBefore }, notBefore), true);
  assert.equal(isRetryDue({ notBefore }, notBefore + 86_400_000), true, "turned forward");
  assert.equal(isRetryDue({ notBefore }, notBefore - RETRY_DELAY_MS_MAX), false);
  assert.equal(isRetryDue({ notBefore }, notBefore - RETRY_DELAY_MS_MAX - 1), true);
});

Deno.test("failures are forgotten by a clock that was turned back behind the last success", () => {
  const events = [
    created(instanceOf("i")),
    retrying("OOM"),
    reported("i:0", "RunnerReady", { at: NOW }),
  ];
  const state = fold(events);
  assert.deepEqual(reconcile(state, reconcileContext({ now: NOW })), []);
  assert.deepEqual(reconcile(state, reconcileContext({ now: NOW - 1 })), [
    { type: "InstanceRetriesReset", instanceId: instanceId("i") },
  ]);
});
