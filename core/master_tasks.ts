import type { Command } from "./commands.ts";
import type { DecideContext, Decision } from "./decision.ts";
import { AppError } from "./errors.ts";
import { type InstanceId, type ModelId, type TaskId, taskIdOf } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import { nodesOf } from "./instance_health.ts";
import { isReady } from "./master_instances.ts";
import { isPrefillOnly, prefillSource } from "./prefill_source.ts";
import type { State } from "./state.ts";
import { isInFlight, type Task, TaskType } from "./task.ts";

/**
 * The ready instance with the fewest tasks in flight; ties go to the older one. One that has just
 * failed the asker comes last, and before it one of a node that is silent: nothing is in flight
 * there, since each request comes back, and it would be asked first until its node times out.
 */
export function startGeneration(
  state: State,
  { type, commandId, modelId, apiNodeId, avoid }: Extract<Command, { type: TaskType }>,
  { telemetry, isHeard }: Omit<DecideContext, "now">,
): Decision {
  const taskId = taskIdOf(commandId);
  if (state.tasks.has(taskId)) {
    throw new AppError("conflict", `Command "${commandId}" has been given already`);
  }
  const isText = type === TaskType.enum.TextGeneration;
  const placed = [...state.instances.values()]
    .filter(({ shardAssignments }) => shardAssignments.modelId === modelId);
  const candidates = isText
    ? placed.filter(({ instanceId }) => !isPrefillOnly(state, instanceId))
    : placed;
  const ready = candidates.filter((instance) => isReady(state, instance));
  const [first] = ready;
  if (!first) throw noInstance(state, modelId, { placed, candidates });
  const load = loadOf(state);
  const doubt = (instance: Instance) =>
    2 * Number(instance.instanceId === avoid) + Number(!nodesOf(instance).every(isHeard));
  const best = ready.reduce((best, next) => {
    const order = doubt(next) - doubt(best) || load(next.instanceId) - load(best.instanceId);
    return order < 0 ? next : best;
  }, first);
  const prefill = isText ? prefillSource(state, best, { telemetry, load }) : undefined;
  const { instanceId } = best;
  const task: Task = {
    type,
    taskId,
    commandId,
    instanceId,
    modelId,
    apiNodeId,
    taskStatus: "Pending",
    ...(prefill === undefined ? {} : { prefill }),
  };
  return { events: [{ type: "TaskCreated", task }], instanceId };
}

/** How many tasks each instance has in flight. */
function loadOf(state: State): (instanceId: InstanceId) => number {
  const counts = new Map<InstanceId, number>();
  for (const task of state.tasks.values()) {
    if (isInFlight(task)) counts.set(task.instanceId, (counts.get(task.instanceId) ?? 0) + 1);
  }
  return (instanceId) => counts.get(instanceId) ?? 0;
}

function noInstance(
  state: State,
  modelId: ModelId,
  { placed, candidates }: { placed: readonly Instance[]; candidates: readonly Instance[] },
): AppError {
  const [instance] = candidates;
  if (!instance) {
    const [prefills] = placed;
    const found = prefills ? `: ${prefills.instanceId} only prefills for others` : "";
    return new AppError("model_not_found", `No instance found for model ${modelId}${found}`, {
      hint: `exo instance create ${modelId}`,
    });
  }
  const { instanceId } = instance;
  const found = whyNotReady(state, instance);
  return new AppError("not_ready", `Instance ${instanceId} of ${modelId} is not ready: ${found}`, {
    hint: `exo instance await ${instanceId}`,
  });
}

function whyNotReady(state: State, instance: Instance): string {
  const runners = runnersOf(instance).map((id) => state.runners.get(id)?.status.type);
  const gone = nodesOf(instance).filter((nodeId) => !state.nodes.has(nodeId));
  if (gone.length > 0) return `it waits for node ${gone.join(" and ")}, which is gone`;
  const retry = state.instanceRetries.get(instance.instanceId);
  if (retry && runners.every((status) => status === undefined)) {
    return `it failed and is retried (${retry.lastError})`;
  }
  const waits = runners.map((status) => status?.replace("Runner", "") ?? "starting");
  return runners.length === 1
    ? `its runner is ${waits.join()}`
    : `its runners are ${waits.join(", ")}`;
}

/** Cancels a task in flight; any other is content. */
export function cancelTask(state: State, taskId: TaskId): Decision {
  const task = state.tasks.get(taskId);
  if (!task || !isInFlight(task)) return { events: [] };
  return { events: [{ type: "TaskStatusUpdated", taskId, taskStatus: "Cancelled" }] };
}

/** Forgets a task whose asker has its answer, or has gone. */
export function finishTask(state: State, taskId: TaskId): Decision {
  return { events: state.tasks.has(taskId) ? [{ type: "TaskDeleted", taskId }] : [] };
}
