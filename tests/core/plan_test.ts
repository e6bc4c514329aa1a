import assert from "node:assert/strict";
import type { Event } from "../../core/events.ts";
import type { RunnerId, TaskId } from "../../core/ids.ts";
import { type LocalRunner, type LocalView, nextPlanAt, plan } from "../../core/plan.ts";
import type { RunnerStatus } from "../../core/runner_status.ts";
import type { State } from "../../core/state.ts";
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
  statusOf,
  taskCreated,
  taskId,
  taskOf,
} from "../support/fixtures.ts";

const NOW = 10_000;
const NODES = [A, B, C].map((nodeId) => nodeStarted(nodeId));

/** The state of three nodes after these events. */
const stateOf = (events: readonly Event[]): State => fold([...NODES, ...events]);

type Type = RunnerStatus["type"];

/** This node's runner of instance `i`, or of another. */
function local(type: Type, fields: Partial<LocalRunner> = {}): LocalRunner {
  return {
    instanceId: instanceId("i"),
    incarnation: 1,
    peers: new Map(),
    status: statusOf(type),
    busy: false,
    stopping: false,
    dispatched: new Set<TaskId>(),
    cancelled: new Set<TaskId>(),
    ...fields,
  };
}

function view(
  runners: Record<string, LocalRunner> = {},
  fields: Partial<LocalView> = {},
): LocalView {
  const byId = new Map<RunnerId, LocalRunner>(
    Object.entries(runners).map(([id, runner]) => [runnerId(id), runner]),
  );
  return { nodeId: A, runners: byId, fetching: new Set(), branch: undefined, ...fields };
}

/** A group `i` on nodes A, B, C whose ranks are in these statuses; null for no status at all. */
function group(...types: (Type | null)[]): Event[] {
  const nodes = [A, B, C].slice(0, types.length);
  return [
    created(instanceOf("i", nodes)),
    ...types.flatMap((type, rank) => type === null ? [] : [reported(`i:${rank}`, type)]),
  ];
}

/** The action of the node that has rank `rank` of such a group. */
function ofRank(rank: number, types: (Type | null)[], ...more: Event[]) {
  const own = types[rank];
  assert.ok(own, "the local rank has a status");
  const nodeId = [A, B, C][rank] ?? A;
  return plan(
    stateOf([...group(...types), ...more]),
    view({ [`i:${rank}`]: local(own) }, { nodeId }),
    NOW,
  );
}

const chat = (id = "t", fields: Partial<ReturnType<typeof taskOf>> = {}) =>
  taskCreated(taskOf(id, "i", fields));
const single = (...events: Event[]): State => stateOf([created(instanceOf("i")), ...events]);
const has = [downloaded(A), downloaded(B), downloaded(C)];

Deno.test("plan: runner Idle, no downloads known → DownloadModel, once while it looks", () => {
  const idle = { "i:0": local("RunnerIdle") };
  assert.deepEqual(plan(single(), view(idle), NOW), { type: "DownloadModel", modelId: MODEL });
  assert.equal(plan(single(), view(idle, { fetching: new Set([MODEL]) }), NOW), undefined);
});

Deno.test("plan: runner Idle, download Ongoing → nothing, Pending or Failed before → DownloadModel", () => {
  const after = (type: "DownloadOngoing" | "DownloadPending" | "DownloadFailed") => {
    const status = type === "DownloadFailed" ? { type, errorMessage: "" } : { type };
    const event = { type: "NodeDownloadProgress" as const, nodeId: A, modelId: MODEL, status };
    return plan(single(event), view({ "i:0": local("RunnerIdle") }), NOW)?.type;
  };
  assert.equal(after("DownloadOngoing"), undefined);
  // Ours: each new runner looks again, and fails by itself (D14 counts).
  assert.equal(after("DownloadFailed"), "DownloadModel");
  assert.equal(after("DownloadPending"), "DownloadModel");
});

Deno.test("plan: runner Idle, model DownloadCompleted (multi-node) → not DownloadModel", () => {
  assert.equal(ofRank(0, ["RunnerIdle", "RunnerIdle"], ...has)?.type, "ConnectToGroup");
});

Deno.test("plan: runner Idle, model DownloadCompleted (one node) → LoadModel", () => {
  const instance = instanceOf("i");
  const action = plan(single(downloaded(A)), view({ "i:0": local("RunnerIdle") }), NOW);
  assert.deepEqual(action, { type: "LoadModel", runnerId: "i:0", instance });
});

/** The group of these starts of i's ranks waits at some of them; the others are Idle. */
function called(starts: readonly number[], ...callers: readonly number[]): Event[] {
  const groupId = `i/${starts.join(".")}`;
  return starts.map((incarnation, rank) => {
    const idle = reported(`i:${rank}`, "RunnerIdle", { incarnation });
    const waits = { type: "RunnerConnecting" as const, groupId };
    return callers.includes(rank) ? { ...idle, status: waits } : idle;
  });
}

/** What an Idle rank of three does then; it is known to the state as its own first start. */
function meets(rank: number, ...events: Event[]) {
  const nodes = [A, B, C];
  const state = stateOf([created(instanceOf("i", nodes)), ...has, ...events]);
  const runners = { [`i:${rank}`]: local("RunnerIdle") };
  return plan(state, view(runners, { nodeId: nodes[rank] ?? A }), NOW)?.type;
}

Deno.test("plan: rank 0 connects once all others are Idle, ranks < n−1 follow it, rank n−1 is last", () => {
  assert.equal(meets(0, ...called([1, 1, 1])), "ConnectToGroup");
  assert.equal(meets(1, ...called([1, 1, 1])), undefined);
  assert.equal(meets(1, ...called([1, 1, 1], 0)), "ConnectToGroup");
  assert.equal(meets(2, ...called([1, 1, 1], 0)), undefined);
  assert.equal(meets(2, ...called([1, 1, 1], 0, 1)), "ConnectToGroup");
});

Deno.test("plan: nobody connects with a rank that waits for a process of before", () => {
  // Rank 0 has started anew; rank 1 waits for the one before, and is about to be ended.
  assert.equal(meets(0, ...called([9, 1, 1], 0, 1), ...called([1, 1, 1]).slice(0, 1)), undefined);
  // Rank 1 has started anew; what it hears is a call for the one before.
  const stale = called([1, 8, 1], 0).slice(0, 1);
  assert.equal(meets(1, ...called([1, 1, 1]), ...stale), undefined);
  assert.equal(meets(2, ...called([1, 1, 1], 0, 1), ...stale), undefined);
});

Deno.test("plan: a rank that is not known to anybody yet is waited for", () => {
  assert.equal(meets(0, ...called([1, 1, 1]).slice(0, 2)), undefined);
});

Deno.test("plan: a group connects only once every node has the model", () => {
  const action = ofRank(0, ["RunnerIdle", "RunnerIdle"], downloaded(A));
  assert.equal(action, undefined);
});

Deno.test("plan: two nodes, both Connected, both Completed → LoadModel", () => {
  assert.equal(ofRank(0, ["RunnerConnected", "RunnerConnected"], ...has)?.type, "LoadModel");
});

Deno.test("plan: same, second node's download unknown → later Completed: null → LoadModel", () => {
  const both: Type[] = ["RunnerConnected", "RunnerConnected"];
  assert.equal(ofRank(0, both, downloaded(A)), undefined);
  assert.equal(ofRank(0, both, downloaded(A), downloaded(B))?.type, "LoadModel");
  assert.equal(ofRank(0, ["RunnerConnected", null], ...has), undefined);
});

Deno.test("plan: runner Ready, its instance missing → Shutdown(runner)", () => {
  const action = plan(stateOf([]), view({ "i:0": local("RunnerReady") }), NOW);
  assert.deepEqual(action, { type: "Shutdown", runnerId: "i:0" });
});

Deno.test("plan: runner Ready, sibling Failed → Shutdown(runner)", () => {
  const action = ofRank(0, ["RunnerReady", "RunnerFailed"]);
  assert.deepEqual(action, { type: "Shutdown", runnerId: "i:0" });
});

Deno.test("plan: runner Failed here → Shutdown(runner), once", () => {
  const failed = local("RunnerFailed");
  assert.equal(plan(single(), view({ "i:0": failed }), NOW)?.type, "Shutdown");
  const stopping = view({ "i:0": { ...failed, stopping: true } });
  assert.equal(plan(single(), stopping, NOW), undefined);
});

Deno.test("plan: instance moved to another node → Shutdown(runner)", () => {
  const moved = stateOf([created(instanceOf("i", [B]))]);
  assert.equal(plan(moved, view({ "i:0": local("RunnerReady") }), NOW)?.type, "Shutdown");
});

Deno.test("plan: instance assigns us a runner, none local → CreateRunner", () => {
  const instance = instanceOf("i");
  const [shard] = Object.values(instance.shardAssignments.runnerToShard);
  const action = plan(single(), view(), NOW);
  assert.deepEqual(action, { type: "CreateRunner", runnerId: "i:0", instance, shard });
});

Deno.test("plan: supervisor already present / node not assigned → null / null", () => {
  assert.equal(
    plan(single(), view({ "i:0": local("RunnerIdle", { stopping: true }) }), NOW),
    undefined,
  );
  assert.equal(plan(single(), view({}, { nodeId: B }), NOW), undefined);
});

Deno.test("plan: our failure is in the state → null until InstanceHealth has dropped it", () => {
  const failed = single(reported("i:0", "RunnerFailed"));
  assert.equal(plan(failed, view(), NOW), undefined);
  const siblingFailed = stateOf(group(null, "RunnerFailed"));
  assert.equal(plan(siblingFailed, view(), NOW), undefined);
});

Deno.test("plan: runner assigned, none local, now < `notBefore` → null, then CreateRunner", () => {
  const state = single({
    type: "InstanceRetrying",
    instanceId: instanceId("i"),
    failureError: "OOM",
    notBefore: NOW + 2_000,
  });
  assert.equal(plan(state, view(), NOW), undefined);
  assert.equal(nextPlanAt(state, view(), NOW), NOW + 2_000);
  assert.equal(plan(state, view(), NOW + 2_000)?.type, "CreateRunner");
  assert.equal(nextPlanAt(state, view(), NOW + 2_000), undefined);
});

Deno.test("instance deleted before `notBefore` → no CreateRunner, and no date", () => {
  const state = single(
    {
      type: "InstanceRetrying",
      instanceId: instanceId("i"),
      failureError: "OOM",
      notBefore: NOW + 2_000,
    },
    { type: "InstanceDeleted", instanceId: instanceId("i") },
  );
  assert.equal(plan(state, view(), NOW + 2_000), undefined);
  assert.equal(nextPlanAt(state, view(), NOW), undefined);
});

Deno.test("nextPlanAt() is the earliest date of an instance here that has no runner", () => {
  const retrying = (id: string, notBefore: number): Event => ({
    type: "InstanceRetrying",
    instanceId: instanceId(id),
    failureError: "",
    notBefore,
  });
  const state = stateOf([
    created(instanceOf("i")),
    created(instanceOf("j")),
    created(instanceOf("elsewhere", [B])),
    created(instanceOf("runs")),
    retrying("i", NOW + 500),
    retrying("j", NOW + 300),
    retrying("elsewhere", NOW + 100),
    retrying("runs", NOW + 200),
  ]);
  const runs = local("RunnerIdle", { instanceId: instanceId("runs") });
  assert.equal(nextPlanAt(state, view({ "runs:0": runs }), NOW), NOW + 300);
});

Deno.test("plan: two nodes Ready, pending chat for our instance → that same task", () => {
  const action = ofRank(0, ["RunnerReady", "RunnerRunning"], chat());
  assert.deepEqual(action, { type: "TextGeneration", runnerId: "i:0", taskId: "t" });
});

Deno.test("plan: a task that runs elsewhere already is served here too", () => {
  const action = ofRank(0, ["RunnerReady", "RunnerReady"], chat("t", { taskStatus: "Running" }));
  assert.equal(action?.type, "TextGeneration");
});

Deno.test("plan: sibling Idle, pending chat → null", () => {
  assert.equal(ofRank(0, ["RunnerReady", "RunnerIdle"], chat()), undefined);
});

Deno.test("plan: sibling has no status at all, pending chat → null, no throw", () => {
  assert.equal(ofRank(0, ["RunnerReady", null], chat()), undefined);
});

Deno.test("plan: pending chat for a foreign instance → null", () => {
  const state = stateOf([
    ...group("RunnerReady"),
    created(instanceOf("j", [B])),
    reported("j:0", "RunnerReady"),
    taskCreated(taskOf("t", "j")),
  ]);
  assert.equal(plan(state, view({ "i:0": local("RunnerReady") }), NOW), undefined);
});

Deno.test("plan: a task whose instance is gone, or whose runner here serves no more → null", () => {
  const ready = { "i:0": local("RunnerReady") };
  const orphaned = stateOf([...group("RunnerReady"), taskCreated(taskOf("t", "gone"))]);
  assert.equal(plan(orphaned, view(ready), NOW), undefined);
  const state = stateOf([...group("RunnerReady"), chat()]);
  const stale = view({ "i:0": local("RunnerShuttingDown") });
  assert.equal(plan(state, stale, NOW), undefined);
  assert.equal(plan(state, view(ready), NOW)?.type, "TextGeneration");
});

Deno.test("plan: a task is not handed to a process that the log does not know yet", () => {
  const state = single(reported("i:0", "RunnerReady"), chat());
  const later = view({ "i:0": local("RunnerReady", { incarnation: 2 }) });
  assert.equal(plan(state, later, NOW), undefined);
});

Deno.test("plan: task Complete → null", () => {
  for (const taskStatus of ["Complete", "Failed", "Cancelled", "TimedOut"] as const) {
    assert.equal(ofRank(0, ["RunnerReady"], chat("t", { taskStatus })), undefined, taskStatus);
  }
});

Deno.test("plan: runner Running, no tasks → null", () => {
  assert.equal(ofRank(0, ["RunnerRunning"]), undefined);
});

Deno.test("plan: tasks are handed over once each, oldest first", () => {
  const state = stateOf([...group("RunnerReady"), chat("t"), chat("u")]);
  const given = (...ids: string[]) =>
    plan(
      state,
      view({ "i:0": local("RunnerReady", { dispatched: new Set(ids.map(taskId)) }) }),
      NOW,
    );
  const task = (id: string) => ({ type: "TextGeneration", runnerId: "i:0", taskId: id });
  assert.deepEqual(given(), task("t"));
  assert.deepEqual(given("t"), task("u"));
  assert.equal(given("t", "u"), undefined);
});

Deno.test("plan: task Cancelled → CancelTask; runner already told → not again", () => {
  const state = stateOf([...group("RunnerRunning"), chat("t", { taskStatus: "Cancelled" })]);
  const dispatched = new Set([taskId("t")]);
  const runner = local("RunnerRunning", { dispatched });
  const action = plan(state, view({ "i:0": runner }), NOW);
  assert.deepEqual(action, { type: "CancelTask", runnerId: "i:0", taskId: "t" });
  const told = { ...runner, cancelled: dispatched };
  assert.equal(plan(state, view({ "i:0": told }), NOW), undefined);
});

Deno.test("plan: a task that vanished from the state, or failed elsewhere → CancelTask", () => {
  const runner = local("RunnerRunning", { dispatched: new Set([taskId("t")]) });
  const at = (...events: Event[]) =>
    plan(stateOf([...group("RunnerRunning"), ...events]), view({ "i:0": runner }), NOW)?.type;
  assert.equal(at(), "CancelTask");
  assert.equal(at(chat("t", { taskStatus: "Failed" })), "CancelTask");
  assert.equal(at(chat("t", { taskStatus: "Running" })), undefined);
  assert.equal(at(chat("t", { taskStatus: "Complete" })), undefined);
});

Deno.test("plan: a busy runner gets no second command", () => {
  const busy = { busy: true };
  const at = (type: Type, ...events: Event[]) =>
    plan(stateOf([...group(type), ...events]), view({ "i:0": local(type, busy) }), NOW);
  assert.equal(at("RunnerIdle", downloaded(A)), undefined);
  assert.equal(at("RunnerLoaded", downloaded(A)), undefined);
  const two = stateOf([...group("RunnerIdle", "RunnerIdle"), ...has]);
  assert.equal(plan(two, view({ "i:0": local("RunnerIdle", busy) }), NOW), undefined);
});

Deno.test("plan: a stopping runner gets nothing at all", () => {
  const state = stateOf([
    ...group("RunnerReady"),
    chat("t"),
    chat("u", { taskStatus: "Cancelled" }),
  ]);
  const stopping = local("RunnerReady", { stopping: true, dispatched: new Set([taskId("u")]) });
  assert.equal(plan(state, view({ "i:0": stopping }), NOW), undefined);
});

Deno.test("plan: cancelling goes before killing, killing before creating", () => {
  const runner = local("RunnerRunning", { dispatched: new Set([taskId("t")]) });
  const state = stateOf([created(instanceOf("j"))]);
  assert.equal(plan(state, view({ "i:0": runner }), NOW)?.type, "CancelTask");
  const told = { ...runner, cancelled: runner.dispatched };
  assert.equal(plan(state, view({ "i:0": told }), NOW)?.type, "Shutdown");
  const gone = { ...told, stopping: true };
  assert.equal(plan(state, view({ "i:0": gone }), NOW)?.type, "CreateRunner");
});

Deno.test("plan: connecting names the processes that form the group", () => {
  const peer = (type: Type, incarnation: number) => reported("i:1", type, { incarnation });
  const instance = instanceOf("i", [A, B]);
  const pair = [created(instance), reported("i:0", "RunnerIdle")];
  const state = stateOf([...pair, peer("RunnerIdle", 7), downloaded(A), downloaded(B)]);
  assert.deepEqual(plan(state, view({ "i:0": local("RunnerIdle") }), NOW), {
    type: "ConnectToGroup",
    runnerId: "i:0",
    instance,
    peers: new Map([["i:1", 7]]),
  });
});

Deno.test("plan: sibling's incarnation changed (it restarted without our seeing Failed) → Shutdown(runner)", () => {
  const at = (type: Type, incarnation: number) => {
    const sibling = reported("i:1", "RunnerReady", { incarnation });
    const peers = new Map([[runnerId("i:1"), 4]]);
    const state = stateOf([created(instanceOf("i", [A, B])), reported("i:0", type), sibling]);
    return plan(state, view({ "i:0": local(type, { peers }) }), NOW);
  };
  assert.equal(at("RunnerReady", 4), undefined);
  assert.deepEqual(at("RunnerReady", 5), { type: "Shutdown", runnerId: "i:0" });
  assert.deepEqual(at("RunnerConnecting", 5), { type: "Shutdown", runnerId: "i:0" });
});

Deno.test("plan: a sibling that is not in the state is only suspected: nothing is ended for it", () => {
  const peers = new Map([[runnerId("i:1"), 4]]);
  const state = stateOf(group("RunnerReady", null));
  assert.equal(plan(state, view({ "i:0": local("RunnerReady", { peers }) }), NOW), undefined);
});

Deno.test("plan: a sibling that left while this one waits to meet it → Shutdown(runner)", () => {
  const peers = new Map([[runnerId("i:1"), 4]]);
  const at = (type: Type, events: readonly Event[], known = peers) =>
    plan(stateOf(events), view({ "i:0": local(type, { peers: known }) }), NOW);
  const left = group("RunnerConnecting", null);
  assert.deepEqual(at("RunnerConnecting", left), { type: "Shutdown", runnerId: "i:0" });
  const waits = "a node that is out of reach may come back with its process";
  assert.equal(
    at("RunnerConnecting", [...left, { type: "NodeTimedOut", nodeId: B }]),
    undefined,
    waits,
  );
  assert.equal(at("RunnerConnecting", left, new Map()), undefined, "it is not awaited");
});

Deno.test("plan: our runner vanished from the state by a retry, its process lives → Shutdown(runner)", () => {
  const retried: Event[] = [
    ...group("RunnerFailed"),
    { type: "InstanceRetrying", instanceId: instanceId("i"), failureError: "OOM", notBefore: NOW },
  ];
  const at = (incarnation: number) =>
    plan(stateOf(retried), view({ "i:0": local("RunnerReady", { incarnation }) }), NOW);
  assert.deepEqual(at(1), { type: "Shutdown", runnerId: "i:0" });
  assert.equal(at(2), undefined, "the next process lives");
});

Deno.test("plan: a process that nobody has heard of yet goes on", () => {
  const unheard = local("RunnerIdle", { busy: true });
  const state = stateOf([created(instanceOf("i")), downloaded(A)]);
  assert.equal(plan(state, view({ "i:0": unheard }), NOW), undefined);
});

Deno.test("plan: a node of the group is away → null, back → CreateRunner", () => {
  const away = stateOf([created(instanceOf("i", [A, B])), { type: "NodeTimedOut", nodeId: B }]);
  assert.equal(plan(away, view(), NOW), undefined);
  assert.equal(plan(fold([nodeStarted(B, 2)], away), view(), NOW)?.type, "CreateRunner");
});

Deno.test("plan: a task of an unknown kind → null, the first rank alone is given the known ones", () => {
  const both: Type[] = ["RunnerReady", "RunnerReady"];
  assert.equal(ofRank(0, both, chat("t", { type: "ImageGeneration" })), undefined);
  const served = (rank: number) => ofRank(rank, both, chat());
  assert.deepEqual(served(0), { type: "TextGeneration", runnerId: "i:0", taskId: "t" });
  assert.equal(served(1), undefined, "it is led by the first, and sees no prompt");
});

const LOADED = "RunnerLoaded";
const WARMING = "RunnerWarmingUp";

Deno.test("plan: one rank, Loaded → StartWarmup", () => {
  assert.deepEqual(ofRank(0, [LOADED]), { type: "StartWarmup", runnerId: "i:0" });
});

Deno.test("plan: rank 1 of 3, statuses Loaded, Loaded, WarmingUp → StartWarmup", () => {
  assert.equal(ofRank(1, [LOADED, LOADED, WARMING])?.type, "StartWarmup");
});

Deno.test("plan: rank 0, all others WarmingUp → StartWarmup", () => {
  assert.equal(ofRank(0, [LOADED, WARMING, WARMING])?.type, "StartWarmup");
});

Deno.test("plan: rank 1 with rank 0 Idle → null", () => {
  assert.equal(ofRank(1, ["RunnerIdle", LOADED], ...has), undefined);
});

Deno.test("plan: rank 0 with rank 1 Loaded → then WarmingUp: null → StartWarmup", () => {
  assert.equal(ofRank(0, [LOADED, LOADED]), undefined);
  assert.equal(ofRank(0, [LOADED, WARMING])?.type, "StartWarmup");
});

Deno.test("plan: rank 1 with rank 0 WarmingUp → StartWarmup", () => {
  assert.equal(ofRank(1, [WARMING, LOADED])?.type, "StartWarmup");
});

Deno.test("plan: rank 0, all others WarmingUp, or Ready already → StartWarmup", () => {
  assert.equal(ofRank(0, [LOADED, WARMING, "RunnerReady"])?.type, "StartWarmup");
  assert.equal(ofRank(1, [LOADED, LOADED, "RunnerReady"])?.type, "StartWarmup");
});

Deno.test("plan: rank 0, some other Loading → null", () => {
  assert.equal(ofRank(0, [LOADED, WARMING, "RunnerLoading"]), undefined);
});

Deno.test("plan: two instances of different models are brought up side by side", () => {
  const other = cardOf({ modelId: "other" as never });
  const state = stateOf([
    created(instanceOf("i")),
    created(instanceOf("j", [A], { card: other })),
    downloaded(A),
  ]);
  const loading = local("RunnerLoading");
  const idle = local("RunnerIdle", { instanceId: instanceId("j") });
  const action = plan(state, view({ "i:0": loading, "j:0": idle }), NOW);
  assert.deepEqual(action, { type: "DownloadModel", modelId: "other" });
});

Deno.test("plan: an instance that waits to be merged keeps its runner, one that is gone does not", () => {
  const ready = { "i:0": local("RunnerReady") };
  const without = stateOf([]);
  const branch = stateOf([created(instanceOf("i"))]);
  assert.equal(plan(without, view(ready, { branch }), NOW), undefined);
  assert.equal(plan(without, view(ready, { branch: without }), NOW)?.type, "Shutdown");
  assert.equal(plan(without, view(ready), NOW)?.type, "Shutdown");
});
