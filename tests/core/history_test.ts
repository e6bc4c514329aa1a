/** Any history of commands, reports and reconcilers, through the core as a master runs it. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { isDownloadOfUse } from "../../core/apply_models.ts";
import { admit } from "../../core/admission.ts";
import type { Command } from "../../core/commands.ts";
import { AppError } from "../../core/errors.ts";
import type { DownloadStatus } from "../../core/download.ts";
import type { Event } from "../../core/events.ts";
import { ModelId, type NodeId } from "../../core/ids.ts";
import { runnersOf } from "../../core/instance.ts";
import { decide } from "../../core/master.ts";
import { reconcile } from "../../core/reconcile.ts";
import type { RunnerStatus } from "../../core/runner_status.ts";
import { decodeState, EMPTY_STATE, encodeState, type State } from "../../core/state.ts";
import { isInFlight, type TaskStatus } from "../../core/task.ts";
import { GIB } from "../../core/units.ts";
import {
  A,
  B,
  cardOf,
  commandId,
  decideContext,
  downloaded,
  fold,
  instanceId,
  memoryOf,
  MODEL,
  nodeStarted,
  placementOf,
  reconcileContext,
  reported,
  taskId,
} from "../support/fixtures.ts";
import { gathered, linkId, metaId, ringOf, socket, specOf } from "../support/control_plane.ts";

const MEMORY = memoryOf(8 * GIB, [A, B]);

/** One thing that happens to a master. */
type Step =
  | { readonly type: "command"; readonly command: Command }
  | { readonly type: "report"; readonly report: Event }
  | { readonly type: "reconcile"; readonly now: number }
  | { readonly type: "away"; readonly nodeId: NodeId };

const c = { commandId: commandId("c") };
const instance = fc.constantFrom("i", "j").map(instanceId);
const meta = fc.constantFrom("m", "n").map(metaId);
const node = fc.constantFrom(A, B);
const BUNDLED = ModelId.parse("org/bundled");
const task = fc.constantFrom("t", "u", "v", "w").map(commandId);

const anyPlacement = instance.map((instanceId): Command => ({
  type: "PlaceInstance",
  ...c,
  instanceId,
  request: placementOf(),
}));

const anyGeneration = fc.record({ commandId: task, apiNodeId: fc.constantFrom(A, B) })
  .map((fields): Command => ({ type: "TextGeneration", modelId: MODEL, ...fields }));

const anyWish = fc.record({
  metaInstanceId: meta,
  nodeIds: fc.constantFrom<NodeId[] | undefined>(undefined, [A], [B]),
})
  .map(({ metaInstanceId, nodeIds }): Command => ({
    type: "CreateMetaInstance",
    ...c,
    metaInstance: specOf(metaInstanceId, nodeIds ? { nodeIds, maxRetries: 0 } : {}),
    instanceId: instanceId(`of-${metaInstanceId}`),
    modelCard: cardOf(),
  }));

const anyLink = fc.record({ prefill: instance, decode: instance }).map(
  ({ prefill, decode }): Command => ({
    type: "SetInstanceLink",
    ...c,
    linkId: linkId("L"),
    prefillInstances: [prefill],
    decodeInstances: [decode],
  }),
);

const anyCommand: fc.Arbitrary<Command> = fc.oneof(
  { weight: 2, arbitrary: anyWish },
  { weight: 2, arbitrary: anyLink },
  meta.map((metaInstanceId) => ({ type: "DeleteMetaInstance" as const, ...c, metaInstanceId })),
  meta.map((metaInstanceId) => ({ type: "RetryMetaInstance" as const, ...c, metaInstanceId })),
  fc.constant<Command>({ type: "DeleteInstanceLink", ...c, linkId: linkId("L") }),
  fc.constant<Command>({ type: "CreateInstance", ...c, instance: ringOf("ring", [A, B]) }),
  { weight: 3, arbitrary: anyPlacement },
  { weight: 8, arbitrary: anyGeneration },
  instance.map((instanceId) => ({ type: "DeleteInstance" as const, ...c, instanceId })),
  task.map((cancelledCommandId) => ({ type: "TaskCancelled" as const, ...c, cancelledCommandId })),
  task.map((finishedCommandId) => ({ type: "TaskFinished" as const, ...c, finishedCommandId })),
  fc.constant<Command>({ type: "AddCustomModelCard", ...c, modelCard: cardOf() }),
  fc.constant<Command>({ type: "DeleteCustomModelCard", ...c, modelId: MODEL }),
);

const STATUSES: readonly RunnerStatus["type"][] = [
  "RunnerIdle",
  "RunnerLoading",
  "RunnerReady",
  "RunnerReady",
  "RunnerRunning",
  "RunnerFailed",
  "RunnerShutdown",
];
const TASK_STATUSES: readonly TaskStatus[] = ["Running", "Complete", "Failed", "Cancelled"];

const anyReport: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 16,
    arbitrary: fc.record({
      id: fc.constantFrom("i", "j", "of-m", "of-n", "fresh", "ring"),
      type: fc.constantFrom(...STATUSES),
      incarnation: fc.integer({ min: 1, max: 9 }),
    }).map(({ id, type, incarnation }) => reported(`${id}:0`, type, { incarnation })),
  },
  fc.record({ node: fc.constantFrom(A, B), incarnation: fc.nat(5) })
    .map(({ node, incarnation }) => nodeStarted(node, incarnation)),
  {
    weight: 4,
    arbitrary: fc.record({ id: task, taskStatus: fc.constantFrom(...TASK_STATUSES) })
      .map(({ id, taskStatus }): Event => ({
        type: "TaskStatusUpdated",
        taskId: taskId(id),
        taskStatus,
      })),
  },
  node.map((nodeId) => downloaded(nodeId)),
  fc.record({
    nodeId: node,
    modelId: fc.constantFrom(MODEL, BUNDLED),
    status: fc.constantFrom<DownloadStatus>(
      { type: "DownloadPending" },
      { type: "DownloadOngoing" },
      { type: "DownloadCompleted", totalBytes: 1, readOnly: true },
    ),
  }).map((fields): Event => ({ type: "NodeDownloadProgress", ...fields })),
  fc.record({ source: node, sink: node, isGone: fc.boolean() }).map(
    ({ source, sink, isGone }): Event => ({
      ...socket(source, sink),
      type: isGone ? "TopologyEdgeDeleted" : "TopologyEdgeCreated",
    }),
  ),
  fc.record({ node, friendlyName: fc.constantFrom("a", "b"), incarnation: fc.nat(3) }).map(
    ({ node, friendlyName, incarnation }) =>
      gathered(node, { type: "MiscData", friendlyName }, incarnation),
  ),
  task.map((id): Event => ({ type: "TaskDeleted", taskId: taskId(id) })),
  task.map((id): Event => ({
    type: "TaskFailed",
    taskId: taskId(id),
    errorType: "RunnerError",
    errorMessage: "OOM",
  })),
);

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 20, arbitrary: anyCommand.map((command) => ({ type: "command" as const, command })) },
  { weight: 40, arbitrary: anyReport.map((report) => ({ type: "report" as const, report })) },
  { weight: 6, arbitrary: fc.nat(1_000_000).map((now) => ({ type: "reconcile" as const, now })) },
  { weight: 1, arbitrary: node.map((nodeId) => ({ type: "away" as const, nodeId })) },
);

/** Long enough that instances are placed, serve, fail and are deleted again. */
const anyHistory = fc.array(anyStep, { minLength: 40, maxLength: 120, size: "max" });

/** The events of a step; a rejected command has none. */
function eventsOf(state: State, step: Step): readonly Event[] {
  if (step.type === "report") return admit(state, step.report);
  if (step.type === "away") return [{ type: "NodeTimedOut", nodeId: step.nodeId }];
  if (step.type === "reconcile") return reconcile(state, reconcileContext({ now: step.now }));
  try {
    return decide(state, step.command, decideContext(MEMORY)).events;
  } catch (cause) {
    assert.ok(cause instanceof AppError, String(cause));
    return [];
  }
}

/** What must hold of every state. */
function check(state: State): void {
  const owned = new Set([...state.instances.values()].flatMap(runnersOf));
  for (const id of state.runners.keys()) assert.ok(owned.has(id), `runner ${id} has no instance`);
  for (const id of state.instanceRetries.keys()) {
    assert.ok(state.instances.has(id), `retries of ${id}, which is gone`);
  }
  for (const task of state.tasks.values()) {
    const served = !isInFlight(task) || state.instances.has(task.instanceId);
    assert.ok(served, `task ${task.taskId} waits for ${task.instanceId}, which is gone`);
  }
  for (const [nodeId, models] of state.downloads) {
    assert.ok(state.nodes.has(nodeId), `downloads of ${nodeId}, which is away`);
    for (const [modelId, { type }] of models) {
      const isOfUse = type === "DownloadCompleted" || isDownloadOfUse(state, nodeId, modelId);
      assert.ok(isOfUse, `download of ${modelId}, which nobody wants`);
    }
  }
  for (const [source, sinks] of state.connections) {
    for (const sink of sinks.keys()) {
      assert.ok(source !== sink && state.nodes.has(source) && state.nodes.has(sink));
    }
  }
  for (const { prefillInstances, decodeInstances } of state.instanceLinks.values()) {
    for (const id of [...prefillInstances, ...decodeInstances]) assert.ok(state.instances.has(id));
  }
  for (const { metaInstanceId } of state.instances.values()) {
    assert.ok(metaInstanceId === undefined || state.metaInstances.has(metaInstanceId));
  }
  assert.deepEqual([...state.stamps.keys()].toSorted(), intentsOf(state));
}

/** What users have asked for and has not been taken back. */
function intentsOf(state: State): string[] {
  return [
    ...[...state.customModelCards.keys()].map((id) => `card:${id}`),
    ...[...state.metaInstances.keys()].map((id) => `meta:${id}`),
    ...[...state.instances.keys()].map((id) => `instance:${id}`),
    ...[...state.instanceLinks.keys()].map((id) => `link:${id}`),
  ].toSorted();
}

const START = fold([
  nodeStarted(A),
  nodeStarted(B),
  { type: "CustomModelCardAdded", modelCard: cardOf() },
]);

function run(steps: readonly Step[], look: (state: State) => void = () => {}): State {
  return steps.reduce((state, step) => {
    const next = fold([...eventsOf(state, step)], state);
    check(next);
    look(next);
    return next;
  }, START);
}

Deno.test("no history leaves a runner, a retry or a waiting task without its instance", () => {
  const reached = new Set<string>();
  fc.assert(
    fc.property(anyHistory, (steps) => {
      const state = run(steps, (state) => {
        for (const { taskStatus } of state.tasks.values()) reached.add(taskStatus);
        for (const { attempts } of state.instanceRetries.values()) reached.add(`retry ${attempts}`);
        for (const { phase } of state.metaInstances.values()) reached.add(phase);
        if (state.instanceLinks.size > 0) reached.add("a link");
        if (state.connections.size > 0) reached.add("an edge");
        if (state.nodes.size === 0) reached.add("no node");
        if (state.instances.has(instanceId("ring"))) reached.add("a ring");
        if (state.downloads.get(A)?.has(BUNDLED)) reached.add("a bundled model's files");
      });
      assert.deepEqual(decodeState(encodeState(state)), state);
    }),
    { seed: 1, numRuns: 300 },
  );
  // Histories in which nothing happens would show nothing; hence the seed.
  const states = ["placing", "starting", "ready", "retrying", "parked", "a link", "an edge"];
  const others = ["no node", "a ring", "a bundled model's files", "Pending", "retry 1", "retry 2"];
  for (const what of [...TASK_STATUSES, ...states, ...others]) {
    assert.ok(reached.has(what), `no history reached: ${what}`);
  }
});

/** Takes all of it back: every wish, instance, task and card, and every file that a node has. */
function cleaning(state: State): Step[] {
  const commands: Command[] = [
    ...[...state.metaInstances.keys()].map((metaInstanceId): Command => ({
      type: "DeleteMetaInstance",
      ...c,
      metaInstanceId,
    })),
    ...[...state.instances.values()].filter(({ metaInstanceId }) => metaInstanceId === undefined)
      .map(({ instanceId }): Command => ({ type: "DeleteInstance", ...c, instanceId })),
    ...[...state.tasks.values()].map(({ commandId }): Command => ({
      type: "TaskFinished",
      ...c,
      finishedCommandId: commandId,
    })),
    ...[...state.customModelCards.keys()].map((modelId): Command => ({
      type: "DeleteCustomModelCard",
      ...c,
      modelId,
    })),
  ];
  const reports = [...state.downloads].flatMap(([nodeId, models]) =>
    [...models.keys()].map((modelId): Event => ({
      type: "NodeDownloadProgress",
      nodeId,
      modelId,
      status: { type: "DownloadPending" },
    }))
  );
  return [
    ...commands.map((command): Step => ({ type: "command", command })),
    ...reports.map((report): Step => ({ type: "report", report })),
  ];
}

Deno.test("after any cycles of create, run and delete the state is the empty cluster's", () => {
  fc.assert(fc.property(anyHistory, (steps) => {
    const state = run(steps);
    const cleaned = cleaning(state).reduce(
      (state, step) => fold([...eventsOf(state, step)], state),
      state,
    );
    const { lastEventAppliedIdx, lineage, topologyIdx } = cleaned;
    const history = { lastEventAppliedIdx, lineage, topologyIdx };
    const { nodes, connections } = state;
    assert.deepEqual(cleaned, { ...EMPTY_STATE, ...history, nodes, connections });
    const away = [...nodes.keys()].map((nodeId): Event => ({ type: "NodeTimedOut", nodeId }));
    const { lastEventAppliedIdx: _, topologyIdx: __, ...empty } = fold(away, cleaned);
    assert.deepEqual({ ...EMPTY_STATE, ...empty, lineage }, { ...EMPTY_STATE, lineage });
  }));
});

Deno.test("the reconcilers come to rest whatever the state: no endless chain of events", () => {
  fc.assert(fc.property(anyHistory, fc.nat(1_000_000), (steps, now) => {
    let state = run(steps);
    for (let round = 0; round < 10; round++) {
      const events = reconcile(state, reconcileContext({ now }));
      if (events.length === 0) return;
      state = fold(events, state);
    }
    assert.fail("still not content after 10 rounds");
  }));
});
