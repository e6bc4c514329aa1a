import type { InstanceId, ModelId, NodeId, RunnerId, TaskId } from "./ids.ts";
import { type Instance, rankOn, runnersOf, type Shard } from "./instance.ts";
import { isRetryDue } from "./reconcile.ts";
import { isServing, type RunnerStatus } from "./runner_status.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Millis } from "./units.ts";

/** A runner process of this node, as the worker sees it at this moment. */
export interface LocalRunner {
  readonly instanceId: InstanceId;
  readonly incarnation: number;
  readonly status: RunnerStatus;
  /** A lifecycle command is under way: sent, its status change not seen yet. */
  readonly busy: boolean;
  /** Being stopped already. */
  readonly stopping: boolean;
  /** Tasks handed over (sent, running or ended here) and tasks told to stop. */
  readonly dispatched: ReadonlySet<TaskId>;
  readonly cancelled: ReadonlySet<TaskId>;
}

/** What this node knows beyond the state. */
export interface LocalView {
  readonly nodeId: NodeId;
  readonly runners: ReadonlyMap<RunnerId, LocalRunner>;
  /** Models whose files are being fetched or looked for right now. */
  readonly fetching: ReadonlySet<ModelId>;
}

/** The next thing for this node's worker to do. */
export type Action =
  | { readonly type: "CancelTask"; readonly runnerId: RunnerId; readonly taskId: TaskId }
  | { readonly type: "Shutdown"; readonly runnerId: RunnerId }
  | {
    readonly type: "CreateRunner";
    readonly runnerId: RunnerId;
    readonly instance: Instance;
    readonly shard: Shard;
  }
  | { readonly type: "DownloadModel"; readonly modelId: ModelId }
  | { readonly type: "ConnectToGroup"; readonly runnerId: RunnerId }
  | { readonly type: "LoadModel"; readonly runnerId: RunnerId; readonly instance: Instance }
  | { readonly type: "StartWarmup"; readonly runnerId: RunnerId }
  | { readonly type: "TextGeneration"; readonly runnerId: RunnerId; readonly taskId: TaskId };

type Rule = (state: State, local: LocalView, now: Millis) => Action | undefined;

/**
 * This worker's next action: an ordered list of rules, first hit wins; undefined when all is as
 * it should be. Plain data in, plain data out; the worker asks again after each change.
 */
export function plan(state: State, local: LocalView, now: Millis): Action | undefined {
  for (const rule of RULES) {
    const action = rule(state, local, now);
    if (action) return action;
  }
  return undefined;
}

/** When `plan` may have something new to do although nothing changes; undefined for never. */
export function nextPlanAt(state: State, local: LocalView, now: Millis): Millis | undefined {
  const times: Millis[] = [];
  for (const instance of state.instances.values()) {
    const rank = rankOn(instance, local.nodeId);
    const retry = state.instanceRetries.get(instance.instanceId);
    const waits = retry !== undefined && !isRetryDue(retry, now);
    if (rank && !local.runners.has(rank.runnerId) && waits) times.push(retry.notBefore);
  }
  return times.length === 0 ? undefined : Math.min(...times);
}

/** Stops what nobody waits for any more: cancelled, failed elsewhere, or gone from the state. */
const cancel: Rule = (state, { runners }) => {
  for (const [runnerId, runner] of runners) {
    for (const taskId of runner.dispatched) {
      if (runner.cancelled.has(taskId) || runner.stopping) continue;
      const task = state.tasks.get(taskId);
      if (task === undefined || !(isInFlight(task) || task.taskStatus === "Complete")) {
        return { type: "CancelTask", runnerId, taskId };
      }
    }
  }
  return undefined;
};

/** Ends what should not run: its instance is gone, it failed, or its group is broken. */
const kill: Rule = (state, { nodeId, runners }) => {
  for (const [runnerId, runner] of runners) {
    if (runner.stopping) continue;
    const instance = state.instances.get(runner.instanceId);
    if (!instance || rankOn(instance, nodeId)?.runnerId !== runnerId) {
      return { type: "Shutdown", runnerId };
    }
    if (runner.status.type === "RunnerFailed") return { type: "Shutdown", runnerId };
    const failedSibling = runnersOf(instance).some((id) =>
      id !== runnerId && state.runners.get(id)?.status.type === "RunnerFailed"
    );
    if (failedSibling) return { type: "Shutdown", runnerId };
  }
  return undefined;
};

const create: Rule = (state, { nodeId, runners }, now) => {
  for (const instance of state.instances.values()) {
    const rank = rankOn(instance, nodeId);
    if (!rank || runners.has(rank.runnerId)) continue;
    const retry = state.instanceRetries.get(instance.instanceId);
    if (retry && !isRetryDue(retry, now)) continue;
    // A failed entry stays until InstanceHealth has said when to try again.
    const failed = runnersOf(instance).some((id) =>
      state.runners.get(id)?.status.type === "RunnerFailed"
    );
    if (failed) continue;
    return { type: "CreateRunner", runnerId: rank.runnerId, instance, shard: rank.shard };
  }
  return undefined;
};

const download: Rule = (state, { nodeId, runners, fetching }) => {
  for (const { runner, instance } of bound(state, runners)) {
    const { modelId } = instance.shardAssignments;
    if (runner.status.type !== "RunnerIdle" || fetching.has(modelId)) continue;
    // What failed before is looked for anew by each new runner; the retries are the instance's.
    const status = state.downloads.get(nodeId)?.get(modelId)?.type;
    if (status !== "DownloadOngoing" && status !== "DownloadCompleted") {
      return { type: "DownloadModel", modelId };
    }
  }
  return undefined;
};

const connect: Rule = (state, { runners }) => {
  for (const { runnerId, runner, instance } of bound(state, runners)) {
    const ranks = runnersOf(instance);
    if (ranks.length < 2 || runner.busy || runner.status.type !== "RunnerIdle") continue;
    const others = ranks.filter((id) => id !== runnerId)
      .map((id) => state.runners.get(id)?.status.type);
    const isLast = ranks.at(-1) === runnerId;
    const go = isLast
      ? others.every((type) => type === "RunnerConnecting")
      : others.every((type) => type === "RunnerIdle" || type === "RunnerConnecting");
    if (go) return { type: "ConnectToGroup", runnerId };
  }
  return undefined;
};

const load: Rule = (state, { runners }) => {
  for (const { runnerId, runner, instance } of bound(state, runners)) {
    if (runner.busy || !everyNodeHasModel(state, instance)) continue;
    const ranks = runnersOf(instance);
    const type = runner.status.type;
    const single = ranks.length === 1 && type === "RunnerIdle";
    const group = ranks.length > 1 && type === "RunnerConnected" &&
      ranks.every((id) =>
        ["RunnerConnected", "RunnerLoading", "RunnerLoaded"].includes(
          state.runners.get(id)?.status.type ?? "",
        )
      );
    if (single || group) return { type: "LoadModel", runnerId, instance };
  }
  return undefined;
};

/** Rank 0 warms up last, so that no collective waits longer than it must. */
const warmUp: Rule = (state, { runners }) => {
  for (const { runnerId, runner, instance } of bound(state, runners)) {
    if (runner.busy || runner.status.type !== "RunnerLoaded") continue;
    const ranks = runnersOf(instance);
    const others = ranks.filter((id) => id !== runnerId)
      .map((id) => state.runners.get(id)?.status.type);
    const isFirst = ranks[0] === runnerId;
    const go = isFirst
      ? others.every((type) => type === "RunnerWarmingUp")
      : others.every((type) => type === "RunnerLoaded" || type === "RunnerWarmingUp");
    if (go) return { type: "StartWarmup", runnerId };
  }
  return undefined;
};

const serve: Rule = (state, { runners }) => {
  for (const task of state.tasks.values()) {
    if (!isInFlight(task)) continue;
    const instance = state.instances.get(task.instanceId);
    if (!instance) continue;
    for (const runnerId of runnersOf(instance)) {
      const runner = runners.get(runnerId);
      if (!runner || runner.stopping || runner.dispatched.has(task.taskId)) continue;
      if (!isServing(runner.status)) continue;
      const ready = runnersOf(instance).every((id) => isServing(state.runners.get(id)?.status));
      if (ready) return { type: "TextGeneration", runnerId, taskId: task.taskId };
    }
  }
  return undefined;
};

const RULES: readonly Rule[] = [cancel, kill, create, download, connect, load, warmUp, serve];

/** The local runners that live, each with its instance. */
function* bound(state: State, runners: ReadonlyMap<RunnerId, LocalRunner>) {
  for (const [runnerId, runner] of runners) {
    const instance = state.instances.get(runner.instanceId);
    if (instance && !runner.stopping) yield { runnerId, runner, instance };
  }
}

function everyNodeHasModel(state: State, instance: Instance): boolean {
  const { modelId, nodeToRunner } = instance.shardAssignments;
  return Object.keys(nodeToRunner).every((nodeId) =>
    state.downloads.get(nodeId as NodeId)?.get(modelId)?.type === "DownloadCompleted"
  );
}
