import assert from "node:assert/strict";
import type { Event } from "../../../core/events.ts";
import type { Instance } from "../../../core/instance.ts";
import type { NodeId } from "../../../core/ids.ts";
import type { MetaInstance } from "../../../core/meta_instance.ts";
import {
  failureOf,
  INSTANCE_ATTEMPTS_MAX,
  isRetryDue,
  reconcileInstances,
  RETRY_DELAY_MS_MAX,
  RETRY_RESET_MS,
  retryDelayMs,
} from "../../../core/reconcile_instances.ts";
import type { State } from "../../../core/state.ts";
import {
  A,
  B,
  C,
  created,
  fold,
  instanceId,
  instanceOf,
  nodeStarted,
  reported,
  taskCreated,
  taskOf,
} from "../../support/fixtures.ts";
import { boundTo, createdFor, edge, metaId, metaOf, wished } from "../../support/meta_instances.ts";

const NOW = 1_000_000;
const UPTIME = 100_000;
const NODES = [A, B, C].map((nodeId) => nodeStarted(nodeId));

/** What InstanceHealth decides at a date, when these nodes were seen so long ago. */
function decided(state: State, now: number, agoMs: readonly (readonly [NodeId, number])[] = []) {
  const lastSeen = new Map(agoMs.map(([nodeId, ms]) => [nodeId, UPTIME - ms]));
  const telemetry = { lastSeen, links: new Map() };
  return reconcileInstances(state, { telemetry, uptime: UPTIME, now });
}

/** Three nodes after these events. */
const after = (...events: Event[]): State => fold([...NODES, ...events]);

/** One instance `i` whose runners have reported this. */
function instance(...reports: Event[]): State {
  const nodes = [A, B, C].slice(0, Math.max(1, reports.length));
  return after(created(instanceOf("i", nodes)), ...reports);
}

/** One instance `i` on A for the wish `m`, and these events. */
function bound(fields: Partial<MetaInstance>, ...events: Event[]): State {
  return after(wished(metaOf("m", fields)), createdFor("m", "i"), ...events);
}

/** A ring `i` whose ranks listen at these addresses, each at a port of its own. */
function ringOf(ips: readonly string[]): Instance {
  const nodes = [A, B, C].slice(0, ips.length);
  const hosts = ips.map((ip, rank) => ({ ip, port: 50_000 + rank }));
  const hostsByNode = Object.fromEntries(nodes.map((nodeId) => [nodeId, hosts]));
  return { ...instanceOf("i", nodes), hostsByNode, ephemeralPort: 50_000 } as Instance;
}

/** That a way is not reported any more. */
function cut(created: Event): Event {
  assert.ok(created.type === "TopologyEdgeCreated");
  return { type: "TopologyEdgeDeleted", connection: created.connection };
}

const retrying = (failureError: string, waitMs = 2_000, id = "i"): Event => ({
  type: "InstanceRetrying",
  instanceId: instanceId(id),
  failureError,
  notBefore: NOW + waitMs,
});

const deleted = (failureError: string): Event => ({
  type: "InstanceDeleted",
  instanceId: instanceId("i"),
  failureError,
});

const parked = (reason: string): Event => ({
  type: "MetaInstanceParked",
  metaInstanceId: metaId("m"),
  reason,
});

const reset: Event = { type: "InstanceRetriesReset", instanceId: instanceId("i") };

/** The failure of rank 0, each time by another process. */
let processes = 1;
const failure = (reason = "OOM") =>
  reported("i:0", "RunnerFailed", { reason, incarnation: processes++ });

Deno.test("H4: failed runners, alone or with stopped ones, are a failure with its text", () => {
  const one = instance(reported("i:0", "RunnerFailed"));
  assert.deepEqual(decided(one, NOW), [retrying("node-a: OOM")]);
  const both = instance(reported("i:0", "RunnerFailed"), reported("i:1", "RunnerFailed"));
  assert.deepEqual(decided(both, NOW), [retrying("node-a: OOM; node-b: OOM")]);
  // A stopped runner leaves the state, so the sibling is absent here.
  const stopped = instance(reported("i:0", "RunnerFailed"), reported("i:1", "RunnerShutdown"));
  assert.deepEqual(decided(stopped, NOW), [retrying("node-a: OOM")]);
});

Deno.test("H5: stopped, absent, alive and ready runners are no failure", () => {
  assert.deepEqual(decided(instance(reported("i:0", "RunnerShutdown")), NOW), []);
  const loading = instance(reported("i:0", "RunnerFailed"), reported("i:1", "RunnerLoading"));
  assert.deepEqual(decided(loading, NOW), [], "the others are stopped first");
  assert.deepEqual(decided(instance(), NOW), []);
  assert.deepEqual(decided(instance(reported("i:0", "RunnerReady")), NOW), []);
});

Deno.test("a failed rank fails the tasks in flight at once, while others are still stopped", () => {
  const broken = instance(reported("i:0", "RunnerRunning"), reported("i:1", "RunnerFailed"));
  const task = taskCreated(taskOf("t", "i", { taskStatus: "Running" }));
  const over = taskCreated(taskOf("u", "i", { taskStatus: "Complete" }));
  const state = fold([task, over], broken);
  const failed: Event = {
    ...{ type: "TaskFailed", taskId: taskOf("t", "i").taskId },
    ...{ errorType: "group_broken", errorMessage: "node-b: OOM" },
  };
  assert.deepEqual(decided(state, NOW), [failed]);
  assert.deepEqual(decided(fold([failed], state), NOW), [], "told once");
});

Deno.test("failureOf() names the ranks that failed, and is silent while none has", () => {
  const at = (state: State) => failureOf(state, state.instances.get(instanceId("i")) as Instance);
  const ready = reported("i:0", "RunnerReady");
  assert.equal(at(instance(ready, reported("i:1", "RunnerFailed"))), "node-b: OOM");
  assert.equal(at(instance(ready, reported("i:1", "RunnerReady"))), undefined);
  const away = fold([{ type: "NodeTimedOut", nodeId: B }], instance(ready, ready));
  assert.equal(at(away), undefined);
});

Deno.test("the retry of a ring takes other ports, and all ranks are told the same", () => {
  const nodes = [A, B];
  const ring = ringOf(["127.0.0.1", "127.0.0.1"]);
  const ways = [edge(A, B, "127.0.0.1"), edge(B, A, "127.0.0.1")];
  const state = after(
    ...ways,
    created(ring),
    reported("i:0", "RunnerFailed", { reason: "in use" }),
  );
  const [event] = decided(state, NOW);
  assert.ok(event?.type === "InstanceRetrying" && event.ports?.length === 2);
  assert.equal(event.addresses, undefined, "they are what they were");
  assert.ok(event.ports.every((port) => port !== 50_000 && port !== 50_001));
  const retried = fold([event], state).instances.get(instanceId("i"));
  assert.ok(retried?.type === "MlxRingInstance");
  for (const nodeId of nodes) {
    assert.deepEqual(retried.hostsByNode[nodeId]?.map(({ port }) => port), event.ports);
  }
});

Deno.test("H6: a failure without a word is `Runner failed`", () => {
  const silent = instance(reported("i:0", "RunnerFailed", { reason: "" }));
  assert.deepEqual(decided(silent, NOW), [retrying("Runner failed")]);
});

Deno.test("H7: what all failed runners said is joined by rank, with the names of their nodes", () => {
  const named = (name: string): Event => ({
    type: "NodeGatheredInfo",
    nodeId: B,
    incarnation: 1,
    info: { type: "MiscData", friendlyName: name },
  });
  const reports = [
    reported("i:2", "RunnerFailed", { reason: "OOM on GPU 2" }),
    reported("i:0", "RunnerFailed", { reason: "OOM on GPU 0" }),
    reported("i:1", "RunnerFailed", { reason: "OOM on GPU 1" }),
  ];
  const said = (name: string) => decided(fold([named(name)], instance(...reports)), NOW);
  assert.deepEqual(said("My Mac Studio"), [
    retrying("node-a: OOM on GPU 0; My Mac Studio: OOM on GPU 1; node-c: OOM on GPU 2"),
  ]);
  assert.deepEqual(said(""), [
    retrying("node-a: OOM on GPU 0; node-b: OOM on GPU 1; node-c: OOM on GPU 2"),
  ], "without a name it is the id");
});

Deno.test("H8: a wish's instance that failed 0 or 2 times is retried after 2 s or 8 s", () => {
  const failed = (consecutiveFailures: number) =>
    decided(bound({ consecutiveFailures }, failure()), NOW);
  assert.deepEqual(failed(0), [retrying("node-a: OOM", 2_000)]);
  assert.deepEqual(failed(2), [retrying("node-a: OOM", 8_000)]);
});

Deno.test("the delays double from 2 s and stop at 60 s", () => {
  const delays = Array.from({ length: INSTANCE_ATTEMPTS_MAX }, (_, n) => retryDelayMs(n) / 1_000);
  assert.deepEqual(delays, [2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
});

/** Lets instance `i` fail until it is given up: the waits in seconds, and the last decision. */
function crashLoop(start: State): { waits: number[]; end: Event[]; state: State } {
  let state = start;
  const waits: number[] = [];
  for (;;) {
    state = fold([failure()], state);
    const events = decided(state, NOW);
    const [event] = events;
    state = fold(events, state);
    assert.deepEqual(decided(state, NOW), [], "content until the next failure");
    if (event?.type !== "InstanceRetrying") return { waits, end: events, state };
    waits.push((event.notBefore - NOW) / 1_000);
  }
}

Deno.test("H9, changed by D14: a failure over the limit deletes; a wish is parked beside", () => {
  const limit = bound({ consecutiveFailures: 3 }, taskCreated(taskOf("t", "i")), failure());
  assert.deepEqual(decided(limit, NOW), [
    { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Cancelled" },
    deleted("node-a: OOM"),
    parked("node-a: OOM"),
  ]);
  const { waits, end } = crashLoop(instance());
  assert.deepEqual(waits, [2, 4, 8, 16, 32, 60, 60, 60, 60, 60], "unbound: 10 attempts");
  assert.deepEqual(end, [deleted("node-a: OOM")]);
});

Deno.test("a wish sets its own limit; 0 parks it at the first failure", () => {
  const { waits, state } = crashLoop(bound({ maxRetries: 6 }));
  assert.deepEqual(waits, [2, 4, 8, 16, 32, 60]);
  assert.equal(state.metaInstances.get(metaId("m"))?.phase, "parked");
  assert.deepEqual(crashLoop(bound({ maxRetries: 0 })).waits, []);
});

Deno.test("a wish that is parked already is not parked again when another instance fails", () => {
  const meta = metaOf("m", { consecutiveFailures: 3, phase: "parked" });
  const state = after(createdFor("m", "i"), wished(meta), failure());
  assert.deepEqual(decided(state, NOW), [deleted("node-a: OOM")]);
});

Deno.test("H10: a wish's instance without a node of it is deleted, with the tasks it worked on", () => {
  const state = after(
    wished(metaOf("m")),
    createdFor("m", "i", [A, B]),
    taskCreated(taskOf("t", "i", { taskStatus: "Running" })),
    taskCreated(taskOf("done", "i", { taskStatus: "Complete" })),
    { type: "NodeTimedOut", nodeId: B },
  );
  assert.deepEqual(decided(state, NOW), [
    { type: "TaskStatusUpdated", taskId: "t", taskStatus: "Cancelled" },
    deleted("Network connection lost"),
  ]);
});

Deno.test("an absent node that is heard of is about to come: its instance is not given up", () => {
  const state = after(
    wished(metaOf("m")),
    createdFor("m", "i", [A, B]),
    { type: "NodeTimedOut", nodeId: B },
  );
  assert.deepEqual(decided(state, NOW, [[B, 29_999]]), []);
  assert.deepEqual(decided(state, NOW, [[B, 30_000]]), [deleted("Network connection lost")]);
});

Deno.test("H10, unbound: an instance without a node of it waits, and counts nothing until it is back", () => {
  const state = after(
    created(instanceOf("i", [A, B])),
    reported("i:0", "RunnerFailed"),
    { type: "NodeTimedOut", nodeId: B },
  );
  assert.deepEqual(decided(state, NOW), []);
  const back = fold([nodeStarted(B, 2)], state);
  assert.deepEqual(decided(back, NOW), [retrying("node-a: OOM")]);
});

Deno.test("H11, changed by D14: after 2, 4 and 8 s the fourth failure deletes and parks", () => {
  const { waits, end, state } = crashLoop(bound({}));
  assert.deepEqual(waits, [2, 4, 8]);
  assert.deepEqual(end, [deleted("node-a: OOM"), parked("node-a: OOM")]);
  const meta = state.metaInstances.get(metaId("m"));
  assert.equal(meta?.phase, "parked");
  assert.equal(meta?.consecutiveFailures, 4);
  assert.equal(meta?.lastFailureError, "node-a: OOM");
});

Deno.test("H12: of several instances each failing one gets its decision, a healthy one none", () => {
  const state = after(
    ...["healthy", "x", "y"].map((id) => created(instanceOf(id))),
    reported("healthy:0", "RunnerReady"),
    reported("x:0", "RunnerFailed"),
    reported("y:0", "RunnerFailed"),
  );
  const first = decided(state, NOW);
  assert.deepEqual(first, [retrying("node-a: OOM", 2_000, "x")]);
  const second = decided(fold(first, state), NOW);
  assert.deepEqual(second, [retrying("node-a: OOM", 2_000, "y")]);
  assert.deepEqual(decided(fold([...first, ...second], state), NOW), []);
});

Deno.test("crash loop: InstanceRetrying at +2, 4, 8, 16, 32, 60 s…; the 11th failure is final", () => {
  const { waits, state } = crashLoop(instance());
  assert.equal(waits.length, INSTANCE_ATTEMPTS_MAX);
  assert.equal(state.instances.size, 0);
});

Deno.test("what a failed instance worked on fails with its reason, what others do goes on", () => {
  const state = after(
    created(instanceOf("i")),
    created(instanceOf("j")),
    ...["t", "u"].map((id) => taskCreated(taskOf(id, "i"))),
    taskCreated(taskOf("done", "i", { taskStatus: "Complete" })),
    taskCreated(taskOf("other", "j")),
    failure(),
  );
  const failed = (taskId: string) => ({
    type: "TaskFailed",
    taskId,
    errorType: "runner_failed",
    errorMessage: "node-a: OOM",
  });
  assert.deepEqual(decided(state, NOW), [
    failed("t"),
    failed("u"),
    retrying("node-a: OOM"),
  ]);
});

Deno.test("an instance whose wish is gone is left to the reconciler of wishes", () => {
  assert.deepEqual(decided(after(createdFor("gone", "i"), failure()), NOW), []);
});

Deno.test("failures are forgotten after a minute of serving, and not before", () => {
  const state = after(
    created(instanceOf("i")),
    retrying("OOM", 0),
    reported("i:0", "RunnerReady", { at: NOW }),
    reported("i:0", "RunnerRunning", { at: NOW + 30_000 }),
  );
  const at = NOW + RETRY_RESET_MS;
  assert.deepEqual(decided(state, at - 1), []);
  assert.deepEqual(decided(state, at), [reset]);
  const forgotten = fold([reset], state);
  assert.deepEqual(decided(forgotten, at), []);
  assert.deepEqual(decided(fold([failure()], forgotten), NOW), [
    retrying("node-a: OOM"),
  ]);
});

Deno.test("what an earlier instance of a wish did wrong is forgotten, too", () => {
  const ready = reported("i:0", "RunnerReady", { at: NOW });
  const state = bound({ consecutiveFailures: 2 }, ready);
  assert.deepEqual(decided(state, NOW + RETRY_RESET_MS), [reset]);
  const forgotten = fold([reset], state);
  assert.equal(forgotten.metaInstances.get(metaId("m"))?.consecutiveFailures, 0);
  assert.deepEqual(decided(forgotten, NOW + RETRY_RESET_MS), []);
});

Deno.test("the minute counts from when the last rank began to serve", () => {
  const state = after(
    created(instanceOf("i", [A, B])),
    retrying("OOM", 0),
    reported("i:0", "RunnerReady", { at: NOW + 500 }),
    reported("i:1", "RunnerReady", { at: NOW }),
  );
  assert.deepEqual(decided(state, NOW + RETRY_RESET_MS), []);
  assert.deepEqual(decided(state, NOW + 500 + RETRY_RESET_MS), [reset]);
});

Deno.test("nothing is due to be forgotten while nothing failed, nothing serves, or a node is away", () => {
  const later = NOW + RETRY_RESET_MS;
  assert.deepEqual(decided(instance(reported("i:0", "RunnerReady")), later), []);
  const failedOnce = after(created(instanceOf("i")), retrying("OOM", 0));
  assert.deepEqual(decided(failedOnce, later), []);
  const ready = fold([reported("i:0", "RunnerReady", { at: NOW })], failedOnce);
  assert.deepEqual(decided(ready, later), [reset]);
  assert.deepEqual(decided(fold([{ type: "NodeTimedOut", nodeId: A }], ready), later), []);
});

Deno.test("a retry is due at its date, and at once when a clock that was turned back set it", () => {
  const notBefore = NOW + 2_000;
  assert.equal(isRetryDue({ notBefore }, NOW), false);
  assert.equal(isRetryDue({ notBefore }, notBefore), true);
  assert.equal(isRetryDue({ notBefore }, notBefore + 86_400_000), true, "turned forward");
  assert.equal(isRetryDue({ notBefore }, notBefore - RETRY_DELAY_MS_MAX), false);
  assert.equal(isRetryDue({ notBefore }, notBefore - RETRY_DELAY_MS_MAX - 1), true);
});

Deno.test("a node whose clock is a little ahead does not make its failures forgotten", () => {
  const state = after(
    created(instanceOf("i")),
    retrying("OOM", 0),
    reported("i:0", "RunnerReady", { at: NOW }),
  );
  assert.deepEqual(decided(state, NOW - 50), []);
  assert.deepEqual(decided(state, NOW - RETRY_RESET_MS + 1), []);
  assert.deepEqual(decided(state, NOW - RETRY_RESET_MS), [reset], "it was turned");
});

const THERE = edge(A, B, "10.0.0.2");
const BACK = edge(B, A, "10.0.0.1");
const RING = ringOf(["10.0.0.1", "10.0.0.2"]);
const NOWHERE = "Cannot listen at 10.0.0.2:50001: this machine has no such address";
const GAPS = "node-a does not reach node-b, node-b does not reach node-a";
const HINT = "bring them into one network, or remove it: exo instance delete i";

/** Each time the second rank fails in another process: what is decided then, and the state after. */
function failsAgain(state: State): { events: Event[]; state: State } {
  const report = { reason: NOWHERE, incarnation: processes++ };
  const failing = fold([reported("i:1", "RunnerFailed", report)], state);
  const events = decided(failing, NOW);
  return { events, state: fold(events, failing) };
}

Deno.test("a ring is tried again at addresses that its nodes still have", () => {
  // B has come to another network, or its lease of the address is over.
  const start = after(created(RING), edge(A, B, "10.0.0.77"), BACK);
  const { events, state } = failsAgain(start);
  const [event] = events;
  assert.ok(event?.type === "InstanceRetrying");
  assert.equal(event.failureError, `node-b: ${NOWHERE}`);
  const now = state.instances.get(instanceId("i"));
  assert.ok(now?.type === "MlxRingInstance");
  for (const nodeId of [A, B]) {
    assert.deepEqual(now.hostsByNode[nodeId]?.map(({ ip }) => ip), ["10.0.0.1", "10.0.0.77"]);
    assert.deepEqual(now.hostsByNode[nodeId]?.map(({ port }) => port), event.ports);
  }
  const [again] = failsAgain(state).events;
  assert.ok(again?.type === "InstanceRetrying");
  assert.equal(again.addresses, undefined, "told once");
});

Deno.test("without a way an instance is tried once as it is, then waits for one and says so", () => {
  const task = taskCreated(taskOf("t", "i", { taskStatus: "Running" }));
  const start = after(created(RING), THERE, BACK, cut(THERE), cut(BACK));
  const told = failsAgain(start);
  const [event] = told.events;
  assert.ok(event?.type === "InstanceRetrying");
  const reason = `node-b: ${NOWHERE}; ${GAPS}: ${HINT}`;
  assert.equal(event.failureError, reason);
  assert.equal(event.addresses, undefined);
  assert.equal(told.state.instanceRetries.get(instanceId("i"))?.lastError, reason);
  // It waits however often its nodes fail it: nothing is counted, and nobody deletes it.
  let { state } = told;
  for (let time = 0; time < 2 * INSTANCE_ATTEMPTS_MAX; time++) {
    const waiting = failsAgain(state);
    assert.deepEqual(waiting.events, []);
    state = waiting.state;
  }
  const [failed, ...more] = decided(fold([task], state), NOW);
  assert.ok(failed?.type === "TaskFailed" && more.length === 0, "nobody waits for an answer");
  // A way is back, at another address.
  state = fold([edge(A, B, "10.0.0.77"), BACK], state);
  const [retried] = decided(state, NOW);
  assert.ok(retried?.type === "InstanceRetrying" && retried.addresses?.length === 2);
});

Deno.test("of one way that is gone only that one is told", () => {
  const { events } = failsAgain(after(created(RING), BACK));
  const reason = `node-b: ${NOWHERE}; node-a does not reach node-b: ${HINT}`;
  assert.ok(events[0]?.type === "InstanceRetrying");
  assert.equal(events[0].failureError, reason);
});

Deno.test("an instance of a wish without a way ends at its second failure, to be placed anew", () => {
  const wish = (fields: Partial<MetaInstance> = {}) =>
    after(wished(metaOf("m", fields)), created(boundTo("m", RING)));
  const lost = deleted(`Network connection lost: ${GAPS}`);
  const told = failsAgain(wish());
  assert.deepEqual(told.events.map(({ type }) => type), ["InstanceRetrying"]);
  const reason = `node-b: ${NOWHERE}; ${GAPS}`;
  assert.equal(told.state.metaInstances.get(metaId("m"))?.lastFailureError, reason);
  const { events, state } = failsAgain(told.state);
  assert.deepEqual(events, [lost]);
  assert.equal(state.metaInstances.get(metaId("m"))?.phase, "placing");
  // Its attempts are for places that could work: it is not parked for this one.
  assert.deepEqual(failsAgain(wish({ maxRetries: 0 })).events, [lost]);
});
