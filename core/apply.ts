import { assert } from "./errors.ts";
import type { Event, IndexedEvent } from "./events.ts";
import type { InstanceId } from "./ids.ts";
import { runnersOf } from "./instance.ts";
import { isServing, type RunnerState } from "./runner_status.ts";
import { drop, put, type State } from "./state.ts";

/**
 * Folds one indexed event into the cluster state. Every node runs this, and all must agree.
 * @throws {Error} when the index leaves a gap or repeats one; the state is unchanged.
 */
export function apply(state: State, { idx, event }: IndexedEvent): State {
  const next = state.lastEventAppliedIdx + 1;
  assert(idx === next, `cannot apply event ${idx} (${event.type}): event ${next} is due`);
  return { ...reduce(state, event), lastEventAppliedIdx: idx };
}

function reduce(state: State, event: Event): State {
  switch (event.type) {
    case "NodeStarted": {
      const { incarnation, info } = event;
      return { ...state, nodes: put(state.nodes, event.nodeId, { incarnation, info }) };
    }
    case "InstanceCreated":
      return {
        ...state,
        instances: put(state.instances, event.instance.instanceId, event.instance),
      };
    case "InstanceDeleted":
      return instanceDeleted(state, event.instanceId);
    case "InstanceRetrying":
      return instanceRetrying(state, event);
    case "InstanceRetriesReset":
      return { ...state, instanceRetries: drop(state.instanceRetries, event.instanceId) };
    case "RunnerStatusUpdated":
      return runnerStatusUpdated(state, event);
    case "TaskCreated":
      return { ...state, tasks: put(state.tasks, event.task.taskId, event.task) };
    case "TaskStatusUpdated": {
      const task = state.tasks.get(event.taskId);
      if (!task) return state;
      return {
        ...state,
        tasks: put(state.tasks, event.taskId, { ...task, taskStatus: event.taskStatus }),
      };
    }
    case "TaskDeleted":
      return { ...state, tasks: drop(state.tasks, event.taskId) };
    case "NodeDownloadProgress": {
      const models = state.downloads.get(event.nodeId) ?? new Map();
      const changed = put(models, event.modelId, event.status);
      return { ...state, downloads: put(state.downloads, event.nodeId, changed) };
    }
    case "CustomModelCardAdded":
      return {
        ...state,
        customModelCards: put(state.customModelCards, event.modelCard.modelId, event.modelCard),
      };
    case "CustomModelCardDeleted":
      return customModelCardDeleted(state, event);
    default:
      return event satisfies never;
  }
}

/** An instance leaves with everything that only it owned. */
function instanceDeleted(state: State, instanceId: InstanceId): State {
  const instance = state.instances.get(instanceId);
  return {
    ...state,
    instances: drop(state.instances, instanceId),
    instanceRetries: drop(state.instanceRetries, instanceId),
    runners: instance ? drop(state.runners, ...runnersOf(instance)) : state.runners,
  };
}

/** All runners of the instance are forgotten; their nodes make new ones from `notBefore` on. */
function instanceRetrying(
  state: State,
  event: Extract<Event, { type: "InstanceRetrying" }>,
): State {
  const instance = state.instances.get(event.instanceId);
  if (!instance) return state;
  const attempts = (state.instanceRetries.get(event.instanceId)?.attempts ?? 0) + 1;
  const retry = { attempts, notBefore: event.notBefore, lastError: event.failureError };
  return {
    ...state,
    instanceRetries: put(state.instanceRetries, event.instanceId, retry),
    runners: drop(state.runners, ...runnersOf(instance)),
  };
}

function runnerStatusUpdated(
  state: State,
  { runnerId, status, incarnation, at }: Extract<Event, { type: "RunnerStatusUpdated" }>,
): State {
  if (status.type === "RunnerShutdown") {
    return { ...state, runners: drop(state.runners, runnerId) };
  }
  const before = state.runners.get(runnerId);
  const goesOn = before !== undefined && before.incarnation === incarnation &&
    isServing(before.status) && isServing(status);
  const runner: RunnerState = { status, incarnation, since: goesOn ? before.since : at };
  return { ...state, runners: put(state.runners, runnerId, runner) };
}

function customModelCardDeleted(
  state: State,
  { modelId }: Extract<Event, { type: "CustomModelCardDeleted" }>,
): State {
  let downloads = state.downloads;
  for (const [nodeId, models] of state.downloads) {
    const rest = drop(models, modelId);
    if (rest === models) continue;
    downloads = rest.size === 0 ? drop(downloads, nodeId) : put(downloads, nodeId, rest);
  }
  return { ...state, downloads, customModelCards: drop(state.customModelCards, modelId) };
}
