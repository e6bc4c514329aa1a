/** Any history of commands, reports and reconcilers, through the core as a master runs it. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { admit } from "../../core/admission.ts";
import type { Command } from "../../core/commands.ts";
import { AppError } from "../../core/errors.ts";
import type { Event } from "../../core/events.ts";
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
} from "../support/cluster.ts";

const MEMORY = memoryOf(8 * GIB, [A, B]);

/** One thing that happens to a master. */
type Step =
  | { readonly type: "command"; readonly command: Command }
  | { readonly type: "report"; readonly report: Event }
  | { readonly type: "reconcile"; readonly now: number };

const c = { commandId: commandId("c") };
const instance = fc.constantFrom("i", "j").map(instanceId);
const task = fc.constantFrom("t", "u", "v", "w").map(commandId);

const anyPlacement = instance.map((instanceId): Command => ({
  type: "PlaceInstance",
  ...c,
  instanceId,
  request: placementOf(),
}));

const anyGeneration = fc.record({ commandId: task, apiNodeId: fc.constantFrom(A, B) })
  .map((fields): Command => ({ type: "TextGeneration", modelId: MODEL, ...fields }));

const anyCommand: fc.Arbitrary<Command> = fc.oneof(
  { weight: 3, arbitrary: anyPlacement },
  { weight: 5, arbitrary: anyGeneration },
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
    weight: 4,
    arbitrary: fc.record({
      id: instance,
      type: fc.constantFrom(...STATUSES),
      incarnation: fc.integer({ min: 1, max: 9 }),
    }).map(({ id, type, incarnation }) => reported(`${id}:0`, type, { incarnation })),
  },
  fc.record({ node: fc.constantFrom(A, B), incarnation: fc.nat(5) })
    .map(({ node, incarnation }) => nodeStarted(node, incarnation)),
  fc.record({ id: task, taskStatus: fc.constantFrom(...TASK_STATUSES) }).map((
    { id, taskStatus },
  ): Event => ({ type: "TaskStatusUpdated", taskId: taskId(id), taskStatus })),
  fc.constantFrom(A, B).map((nodeId) => downloaded(nodeId)),
);

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: anyCommand.map((command) => ({ type: "command" as const, command })) },
  { weight: 3, arbitrary: anyReport.map((report) => ({ type: "report" as const, report })) },
  fc.nat(1_000_000).map((now) => ({ type: "reconcile" as const, now })),
);

/** Long enough that instances are placed, serve, fail and are deleted again. */
const anyHistory = fc.array(anyStep, { minLength: 20, maxLength: 80, size: "max" });

/** The events of a step; a rejected command has none. */
function eventsOf(state: State, step: Step): readonly Event[] {
  if (step.type === "report") return admit(state, step.report);
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
  for (const nodeId of state.downloads.keys()) {
    for (const modelId of state.downloads.get(nodeId)?.keys() ?? []) {
      assert.ok(state.customModelCards.has(modelId), `download of ${modelId}, which is unknown`);
    }
  }
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
      const state = run(steps, ({ tasks, instanceRetries }) => {
        for (const { taskStatus } of tasks.values()) reached.add(taskStatus);
        for (const { attempts } of instanceRetries.values()) reached.add(`retry ${attempts}`);
      });
      assert.deepEqual(decodeState(encodeState(state)), state);
    }),
    { seed: 1, numRuns: 300 },
  );
  // Histories in which nothing happens would show nothing; hence the seed.
  for (const what of [...TASK_STATUSES, "Pending", "retry 1", "retry 2"]) {
    assert.ok(reached.has(what), `no history reached: ${what}`);
  }
});

Deno.test("after any history, deleting what there is leads back to the empty state", () => {
  fc.assert(fc.property(anyHistory, (steps) => {
    const state = run(steps);
    const cleaning: Step[] = [
      ...[...state.instances.keys()].map((instanceId): Command => ({
        type: "DeleteInstance",
        ...c,
        instanceId,
      })),
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
    ].map((command) => ({ type: "command", command }));
    const { nodes, lastEventAppliedIdx, lineage: _, topologyIdx: __, ...rest } = cleaning.reduce(
      (state, step) => fold([...eventsOf(state, step)], state),
      state,
    );
    assert.deepEqual({ ...EMPTY_STATE, ...rest }, EMPTY_STATE);
    assert.equal(nodes.size, 2);
    assert.ok(lastEventAppliedIdx >= START.lastEventAppliedIdx);
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
