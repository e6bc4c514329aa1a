import {
  instanceCreated,
  instanceDeleted,
  instanceRetrying,
  retriesReset,
} from "./apply_instances.ts";
import { lineageMerged } from "./apply_merge.ts";
import { noLongerServed, updateMeta } from "./apply_meta_instances.ts";
import { customModelCardDeleted, downloadProgress } from "./apply_models.ts";
import {
  edgeCreated,
  edgeDeleted,
  nodeGatheredInfo,
  nodeGone,
  nodeStarted,
} from "./apply_nodes.ts";
import { assert } from "./errors.ts";
import type { Event, IndexedEvent } from "./events.ts";
import { compareEpochs, extend, openSegment, type Stamp } from "./lineage.ts";
import { isServing, type RunnerState } from "./runner_status.ts";
import { drop, put, type State } from "./state.ts";

type Of<T extends Event["type"]> = Extract<Event, { type: T }>;

/**
 * Folds one indexed event into the cluster state. Every node runs this, and all must agree.
 * @throws {Error} when the index leaves a gap or repeats one, or the epoch is over; the state is
 * unchanged.
 */
export function apply(state: State, { idx, epoch, event }: IndexedEvent): State {
  const next = state.lastEventAppliedIdx + 1;
  assert(idx === next, `cannot apply event ${idx} (${event.type}): event ${next} is due`);
  const reign = openSegment(state.lineage)?.epoch;
  assert(
    reign === undefined || compareEpochs(epoch, reign) >= 0,
    `cannot apply event ${idx} of epoch ${epoch.clock}: epoch ${reign?.clock} reigns`,
  );
  const lineage = extend(state.lineage, epoch, idx);
  return { ...reduce({ ...state, lineage }, event, { epoch, idx }), lastEventAppliedIdx: idx };
}

function reduce(state: State, event: Event, stamp: Stamp): State {
  switch (event.type) {
    case "EpochStarted":
      return state;
    case "NodeStarted":
      return nodeStarted(state, event, stamp);
    case "NodeGatheredInfo":
      return nodeGatheredInfo(state, event, stamp.idx);
    case "NodeTimedOut":
    case "NodeLeft":
      return nodeGone(state, event.nodeId, stamp);
    case "TopologyEdgeCreated":
      return edgeCreated(state, event.connection, stamp);
    case "TopologyEdgeDeleted":
      return edgeDeleted(state, event.connection);
    case "InstanceCreated":
      return instanceCreated(state, event.instance, stamp);
    case "InstanceDeleted":
      return instanceDeleted(state, event.instanceId, event.failureError);
    case "InstanceRetrying":
      return instanceRetrying(state, event);
    case "InstanceRetriesReset":
      return retriesReset(state, event.instanceId);
    case "RunnerStatusUpdated":
      return runnerStatusUpdated(state, event);
    case "TaskCreated":
      return { ...state, tasks: put(state.tasks, event.task.taskId, event.task) };
    case "TaskStatusUpdated":
      return taskStatusUpdated(state, event);
    case "TaskFailed":
      return taskFailed(state, event);
    case "TaskDeleted":
      return { ...state, tasks: drop(state.tasks, event.taskId) };
    case "NodeDownloadProgress":
      return downloadProgress(state, event);
    case "CustomModelCardAdded": {
      const { modelId } = event.modelCard;
      return {
        ...state,
        customModelCards: put(state.customModelCards, modelId, event.modelCard),
        stamps: put(state.stamps, `card:${modelId}`, stamp),
      };
    }
    case "CustomModelCardDeleted":
      return customModelCardDeleted(state, event.modelId);
    case "InstanceLinkCreated": {
      const { linkId } = event.link;
      return {
        ...state,
        instanceLinks: put(state.instanceLinks, linkId, event.link),
        stamps: put(state.stamps, `link:${linkId}`, stamp),
      };
    }
    case "InstanceLinkDeleted":
      return {
        ...state,
        instanceLinks: drop(state.instanceLinks, event.linkId),
        stamps: drop(state.stamps, `link:${event.linkId}`),
      };
    case "MetaInstanceCreated": {
      const { metaInstanceId } = event.metaInstance;
      return {
        ...state,
        metaInstances: put(state.metaInstances, metaInstanceId, event.metaInstance),
        stamps: put(state.stamps, `meta:${metaInstanceId}`, stamp),
      };
    }
    case "MetaInstanceDeleted":
      return {
        ...state,
        metaInstances: drop(state.metaInstances, event.metaInstanceId),
        stamps: drop(state.stamps, `meta:${event.metaInstanceId}`),
      };
    case "MetaInstanceCardResolved":
    case "MetaInstancePlacementFailed":
    case "MetaInstanceReady":
    case "MetaInstanceParked":
    case "MetaInstanceRearmed":
      return updateMeta(state, event);
    case "LineageMerged":
      return lineageMerged(state, event);
    // deno-coverage-ignore-start
    default:
      return event satisfies never;
      // deno-coverage-ignore-stop
  }
}

function runnerStatusUpdated(
  state: State,
  { runnerId, status, incarnation, at }: Of<"RunnerStatusUpdated">,
): State {
  const before = state.runners.get(runnerId);
  const hasServed = before !== undefined && isServing(before.status);
  const seen = hasServed && !isServing(status) ? noLongerServed(state, runnerId) : state;
  if (status.type === "RunnerShutdown") {
    return { ...seen, runners: drop(state.runners, runnerId) };
  }
  const isSame = before?.incarnation === incarnation;
  const goesOn = isSame && isServing(before.status) && isServing(status);
  const pace = status.type === "RunnerReady"
    ? status.prefillTokensPerSecond
    : goesOn
    ? before.prefillTokensPerSecond
    : undefined;
  const runner: RunnerState = {
    status,
    incarnation,
    since: goesOn ? before.since : at,
    ...(pace === undefined ? {} : { prefillTokensPerSecond: pace }),
  };
  return { ...seen, runners: put(state.runners, runnerId, runner) };
}

function taskStatusUpdated(
  state: State,
  { taskId, taskStatus }: Of<"TaskStatusUpdated">,
): State {
  const task = state.tasks.get(taskId);
  if (!task) return state;
  const { errorType: _, errorMessage: __, ...rest } = task;
  const kept = taskStatus === "Failed" ? task : rest;
  return { ...state, tasks: put(state.tasks, taskId, { ...kept, taskStatus }) };
}

function taskFailed(
  state: State,
  { taskId, errorType, errorMessage }: Of<"TaskFailed">,
): State {
  const task = state.tasks.get(taskId);
  if (!task) return state;
  const failed = { ...task, taskStatus: "Failed" as const, errorType, errorMessage };
  return { ...state, tasks: put(state.tasks, taskId, failed) };
}
