import { groupIdOf } from "./group.ts";
import type { InstanceId, ModelId, NodeId, RunnerId, TaskId } from "./ids.ts";
import { type Instance, rankOn, runnersOf, type Shard } from "./instance.ts";
import { hasAllNodes } from "./instance_health.ts";
import { isRetryDue } from "./reconcile_instances.ts";
import { isServing, type RunnerStatus } from "./runner_status.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Millis } from "./units.ts";

/** Which process each runner was at some moment. */
export type Incarnations = ReadonlyMap<RunnerId, number>;

/** A runner process of this node, as the worker sees it at this moment. */
export interface LocalRunner {
  readonly instanceId: InstanceId;
  readonly incarnation: number;
  /** The processes of the other ranks that it was told to form a group with; none before. */
  readonly peers: Incarnations;
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
  /** A state that gave way to another, until what was asked for in it is merged there. */
  readonly branch: Pick<State, "instances"> | undefined;
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
  | {
    readonly type: "ConnectToGroup";
    readonly runnerId: RunnerId;
    readonly instance: Instance;
    /** From now on the runner's `peers`. */
    readonly peers: Incarnations;
  }
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
const kill: Rule = (state, { nodeId, runners, branch }) => {
  for (const [runnerId, runner] of runners) {
    if (runner.stopping) continue;
    const instance = state.instances.get(runner.instanceId);
    // It may be there again in a moment: nothing is loaded anew because two clusters met.
    if (!instance && branch?.instances.has(runner.instanceId)) continue;
    if (!instance || rankOn(instance, nodeId)?.runnerId !== runnerId) {
      return { type: "Shutdown", runnerId };
    }
    const rank = { runnerId, runner, instance };
    const isOver = runner.status.type === "RunnerFailed" || isOfThePast(state, rank) ||
      isGroupBroken(state, rank);
    if (isOver) return { type: "Shutdown", runnerId };
  }
  return undefined;
};

/** A local runner with its instance. */
interface BoundRunner {
  readonly runnerId: RunnerId;
  readonly runner: LocalRunner;
  readonly instance: Instance;
}

/** Whether the instance goes on with a later process: what this one reports is not heard. */
function isOfThePast(state: State, { runnerId, runner, instance }: BoundRunner): boolean {
  const failed = state.instanceRetries.get(instance.instanceId)?.incarnations[runnerId];
  return failed !== undefined && runner.incarnation <= failed;
}

/**
 * Whether a sibling failed, is another process than the one that this one connected with, or is
 * gone, as after its node started anew, while this one waits to meet it.
 */
function isGroupBroken(state: State, { runnerId, runner, instance }: BoundRunner): boolean {
  // What is loaded stays although a sibling is not in the state: it may be told of in a moment.
  const isMeeting = runner.status.type === "RunnerConnecting" && hasAllNodes(state, instance);
  return runnersOf(instance).some((id) => {
    const sibling = state.runners.get(id);
    if (id === runnerId) return false;
    if (!sibling) return isMeeting && runner.peers.has(id);
    const connected = runner.peers.get(id) ?? sibling.incarnation;
    return sibling.status.type === "RunnerFailed" || sibling.incarnation !== connected;
  });
}

const create: Rule = (state, { nodeId, runners }, now) => {
  for (const instance of state.instances.values()) {
    const rank = rankOn(instance, nodeId);
    if (!rank || runners.has(rank.runnerId)) continue;
    const retry = state.instanceRetries.get(instance.instanceId);
    if (retry && !isRetryDue(retry, now)) continue;
    // A group that cannot be complete would only fail; an instance waits for its nodes.
    if (!hasAllNodes(state, instance)) continue;
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
  for (const rank of bound(state, runners)) {
    const { runnerId, runner, instance } = rank;
    const isOfGroup = runnersOf(instance).length > 1;
    if (!isOfGroup || runner.busy || runner.status.type !== "RunnerIdle") continue;
    // Files that cannot be had fail an idle runner; a group would wait for them for ever.
    if (!everyNodeHasModel(state, instance)) continue;
    const peers = peersToMeet(state, rank);
    if (peers) return { type: "ConnectToGroup", runnerId, instance, peers };
  }
  return undefined;
};

/**
 * The processes that this one can meet now. The first rank calls once all others are Idle; they
 * follow a call that names these very processes, the last one when all others do. Whoever still
 * waits for a process of before is about to end: if this one joined it, it would be ended in its
 * turn, and so on for ever.
 */
function peersToMeet(state: State, rank: BoundRunner): Incarnations | undefined {
  const { runnerId, runner, instance } = rank;
  const ranks = runnersOf(instance);
  const others = ranks.filter((id) => id !== runnerId);
  const peers = new Map(others.flatMap((id) => {
    const peer = state.runners.get(id);
    return peer ? [[id, peer.incarnation] as const] : [];
  }));
  const [first] = ranks;
  if (first === runnerId) {
    const isIdle = (id: RunnerId) => state.runners.get(id)?.status.type === "RunnerIdle";
    return others.every(isIdle) ? peers : undefined;
  }
  const groupId = groupIdOf(instance, new Map([...peers, [runnerId, runner.incarnation]]));
  const callers = others.filter((id) => id === first || ranks.at(-1) === runnerId);
  const isMet = callers.every((id) => {
    const status = state.runners.get(id)?.status;
    return status?.type === "RunnerConnecting" && status.groupId === groupId;
  });
  return isMet ? peers : undefined;
}

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

/**
 * Rank 0 warms up last, so that no collective waits longer than it must. The others are led by it:
 * they may be Ready by the time that anybody looks.
 */
const warmUp: Rule = (state, { runners }) => {
  for (const { runnerId, runner, instance } of bound(state, runners)) {
    if (runner.busy || runner.status.type !== "RunnerLoaded") continue;
    const ranks = runnersOf(instance);
    const others = ranks.filter((id) => id !== runnerId)
      .map((id) => state.runners.get(id)?.status);
    const warms = (status: RunnerStatus | undefined) =>
      status?.type === "RunnerWarmingUp" || isServing(status);
    const go = ranks[0] === runnerId
      ? others.every(warms)
      : others.every((status) => status?.type === "RunnerLoaded" || warms(status));
    if (go) return { type: "StartWarmup", runnerId };
  }
  return undefined;
};

/** The first rank is given the tasks; it leads the others, and no prompt reaches their machines. */
const serve: Rule = (state, { runners }) => {
  for (const task of state.tasks.values()) {
    // No engine makes images yet.
    if (!isInFlight(task) || task.type !== "TextGeneration") continue;
    const instance = state.instances.get(task.instanceId);
    const ranks = instance ? runnersOf(instance) : [];
    const [runnerId] = ranks;
    const runner = runnerId === undefined ? undefined : runners.get(runnerId);
    if (!runnerId || !runner || runner.stopping || runner.dispatched.has(task.taskId)) continue;
    if (!isServing(runner.status)) continue;
    // A log from before this process says nothing about it: what it wants is served already.
    if (state.runners.get(runnerId)?.incarnation !== runner.incarnation) continue;
    const ready = ranks.every((id) => isServing(state.runners.get(id)?.status));
    if (ready) return { type: "TextGeneration", runnerId, taskId: task.taskId };
  }
  return undefined;
};

const RULES: readonly Rule[] = [cancel, kill, create, download, connect, load, warmUp, serve];

/** The local runners that live, each with its instance. */
function* bound(
  state: State,
  runners: ReadonlyMap<RunnerId, LocalRunner>,
): Generator<BoundRunner> {
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
