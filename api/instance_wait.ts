import { toAppError } from "../core/errors.ts";
import type { InstanceId, ModelId, NodeId, RunnerId } from "../core/ids.ts";
import { type Instance, nodesByRank, runnersOf } from "../core/instance.ts";
import { hasAllNodes } from "../core/instance_health.ts";
import { isReady } from "../core/master.ts";
import type { State } from "../core/state.ts";
import { Bell } from "./bell.ts";
import { encodeInstance, type Json } from "./encode_state.ts";
import type { Gateway } from "./gateway.ts";
import { modelOf } from "./resolve.ts";

/** Which instance, and what of it, is waited for. */
export interface Wanted {
  readonly instanceId?: InstanceId;
  readonly modelId?: ModelId;
  readonly until: "exists" | "ready";
  /** Asked for a moment ago: whatever has failed by now is its answer. */
  readonly isNew?: boolean;
  /** 0 waits without end. */
  readonly timeoutMs: number;
}

/** Where an instance stands on its way to ready. */
export type WaitPhase =
  | "placing"
  | "downloading"
  | "starting"
  | "loading"
  | "warming"
  | "retrying"
  /** One of its nodes is gone; it goes on when that one is back. */
  | "absent";

/** Where one runner stands. */
export interface RunnerProgress {
  readonly status: string;
  /** What its node is called; of an instance with several ranks. */
  readonly node?: string;
  readonly layersLoaded?: number;
  readonly totalLayers?: number;
}

/** What `/instance/await` streams: progress, then exactly one of the others. */
export type WaitMessage =
  | {
    readonly type: "progress";
    readonly instanceId: InstanceId | null;
    readonly phase: WaitPhase;
    readonly runners: Readonly<Record<RunnerId, RunnerProgress>>;
    /** Why it is tried again, when it is. */
    readonly message?: string;
  }
  | { readonly type: "ready"; readonly instanceId: InstanceId; readonly instance: Json }
  | { readonly type: "failed"; readonly message: string; readonly instanceId?: InstanceId }
  | { readonly type: "timeout"; readonly message: string };

/**
 * Follows an instance until it is what was wanted, fails, or time is up. Looks again at each
 * change of state and at no other time; changes that nobody took are one.
 */
export async function* waitForInstance(
  gateway: Gateway,
  wanted: Wanted,
  signal: AbortSignal,
): AsyncGenerator<WaitMessage> {
  const changes = new Bell();
  const unsubscribe = gateway.onChange(() => changes.ring());
  const onAbort = () => changes.ring();
  signal.addEventListener("abort", onAbort);
  let isLate = false;
  const onLate = () => {
    isLate = true;
    changes.ring();
  };
  const timer = wanted.timeoutMs > 0 ? setTimeout(onLate, wanted.timeoutMs) : undefined;
  const seen = new Map<InstanceId, Seen>();
  let last = "";
  try {
    while (!signal.aborted) {
      const message = look(gateway.state(), wanted, seen);
      if (message.type !== "progress") return yield message;
      if (isLate) return yield { type: "timeout", message: lateness(wanted, message) };
      const text = JSON.stringify(message);
      if (text !== last) yield message;
      last = text;
      await changes.heard();
    }
  } catch (error) {
    yield { type: "failed", message: toAppError(error).message };
  } finally {
    unsubscribe();
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** What a wait remembers of an instance. */
interface Seen {
  /** Attempts when it was first looked at, with the one that had just failed then. */
  readonly attempts: number;
  /** Starts of runners that had failed by then: they are tried again, and were no news. */
  readonly failed: ReadonlySet<string>;
  /** Why it failed last, as far as it is known. */
  readonly lastError: string | undefined;
}

/** What there is to say now. */
function look(state: State, wanted: Wanted, seen: Map<InstanceId, Seen>): WaitMessage {
  const instances = matching(state, wanted);
  for (const instance of instances) {
    const { instanceId } = instance;
    seen.set(instanceId, lookedAt(state, instance, { wanted, before: seen.get(instanceId) }));
  }
  const done = instances.find((instance) => wanted.until === "exists" || isReady(state, instance));
  if (done) {
    return { type: "ready", instanceId: done.instanceId, instance: encodeInstance(done) };
  }
  const [first] = instances;
  if (!first) return missing(wanted, seen);
  const failures = instances.map((instance) => failureOf(state, instance, seen));
  const hopeful = instances.find((_, index) => failures[index] === undefined);
  if (hopeful) return progressOf(state, hopeful);
  const { instanceId } = first;
  return { type: "failed", instanceId, message: `Instance ${instanceId} failed: ${failures[0]}` };
}

function lookedAt(
  state: State,
  instance: Instance,
  { wanted, before }: { readonly wanted: Wanted; readonly before: Seen | undefined },
): Seen {
  const retry = state.instanceRetries.get(instance.instanceId);
  const lastError = retry?.lastError;
  if (before) return { ...before, lastError };
  if (wanted.isNew) return { attempts: 0, failed: new Set(), lastError };
  const failed = new Set(failedRunners(state, instance).map(({ start }) => start));
  return { attempts: (retry?.attempts ?? 0) + Math.min(failed.size, 1), failed, lastError };
}

/** The runners of an instance that have failed: which start of which, and why. */
function failedRunners(
  state: State,
  instance: Instance,
): { readonly start: string; readonly reason: string }[] {
  return Object.entries(instance.shardAssignments.nodeToRunner).flatMap(([nodeId, runnerId]) => {
    const runner = state.runners.get(runnerId);
    if (runner?.status.type !== "RunnerFailed") return [];
    // As the retry tells it, which is in the state a moment later.
    const name = state.nodes.get(nodeId as NodeId)?.info.friendlyName || nodeId;
    const reason = `${name}: ${runner.status.reason || "Runner failed"}`;
    return [{ start: `${runnerId} ${runner.incarnation}`, reason }];
  });
}

function matching(state: State, { instanceId, modelId }: Wanted): Instance[] {
  if (instanceId !== undefined) {
    const instance = state.instances.get(instanceId);
    return instance ? [instance] : [];
  }
  return [...state.instances.values()].filter((instance) => modelOf(instance) === modelId);
}

function missing(wanted: Wanted, seen: ReadonlyMap<InstanceId, Seen>): WaitMessage {
  const [first] = seen;
  if (first === undefined) {
    return { type: "progress", instanceId: null, phase: "placing", runners: {} };
  }
  const [gone, { lastError }] = first;
  const why = lastError === undefined ? "" : `: ${lastError}`;
  const message = `Instance ${gone} was removed before it was ${wanted.until}${why}`;
  return { type: "failed", instanceId: gone, message };
}

/**
 * Why the instance failed since it was first seen; undefined while it has not. A failed runner is
 * told of as its retry will be: which of the two is seen first is up to chance.
 */
function failureOf(
  state: State,
  instance: Instance,
  seen: ReadonlyMap<InstanceId, Seen>,
): string | undefined {
  const before = seen.get(instance.instanceId);
  const news = failedRunners(state, instance).find(({ start }) => !before?.failed.has(start));
  if (news) return news.reason;
  const retry = state.instanceRetries.get(instance.instanceId);
  return retry && retry.attempts > (before?.attempts ?? 0) ? retry.lastError : undefined;
}

/** Where an instance stands that is not ready. */
export function progressOf(
  state: State,
  instance: Instance,
): Extract<WaitMessage, { type: "progress" }> {
  const { instanceId } = instance;
  const runners: Record<RunnerId, RunnerProgress> = {};
  const nodes = nodesByRank(instance);
  for (const [rank, runnerId] of runnersOf(instance).entries()) {
    const status = state.runners.get(runnerId)?.status;
    const nodeId = nodes[rank];
    if (!status || nodeId === undefined) continue;
    const { type, ...rest } = status;
    const node = state.nodes.get(nodeId)?.info.friendlyName || nodeId;
    runners[runnerId] = { status: type, ...(nodes.length > 1 ? { node } : {}), ...rest };
  }
  const retry = state.instanceRetries.get(instanceId);
  const message = retry ? { message: retry.lastError } : {};
  return {
    type: "progress",
    instanceId,
    phase: phaseOf(state, instance, Object.values(runners)),
    runners,
    ...message,
  };
}

function phaseOf(
  state: State,
  instance: Instance,
  runners: readonly RunnerProgress[],
): WaitPhase {
  if (!hasAllNodes(state, instance)) return "absent";
  const { nodeToRunner } = instance.shardAssignments;
  const holds = [...state.downloads].filter(([, models]) =>
    models.get(modelOf(instance))?.type === "DownloadCompleted"
  );
  const holders = new Set<string>(holds.map(([nodeId]) => nodeId));
  if (runners.some(({ status }) => status === "RunnerLoading")) return "loading";
  if (runners.some(({ status }) => ["RunnerLoaded", "RunnerWarmingUp"].includes(status))) {
    return "warming";
  }
  if (runners.length === 0 && state.instanceRetries.has(instance.instanceId)) return "retrying";
  return Object.keys(nodeToRunner).every((id) => holders.has(id)) ? "starting" : "downloading";
}

function lateness(
  { instanceId, modelId, until, timeoutMs }: Wanted,
  progress: Extract<WaitMessage, { type: "progress" }>,
): string {
  if (progress.instanceId === null) {
    return modelId === undefined
      ? `Instance ${instanceId} not found`
      : `No instance found for model ${modelId}`;
  }
  const waited = `after ${timeoutMs / 1000} s`;
  return `Instance ${progress.instanceId} is not ${until} ${waited}: ${progress.phase}`;
}
