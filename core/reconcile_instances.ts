import type { Event } from "./events.ts";
import type { NodeId, RunnerId } from "./ids.ts";
import { type Instance, type RankAddress, runnersOf } from "./instance.ts";
import { nodesOf } from "./instance_health.ts";
import { listed } from "./listed.ts";
import { instanceEnd } from "./master.ts";
import type { MetaInstance } from "./meta_instance.ts";
import { nodeNames } from "./placement_view.ts";
import { portsOfRetry } from "./ports.ts";
import { type Ways, waysOfRetry, withAddresses } from "./rank_addresses.ts";
import { NODE_TIMEOUT_MS, type NodesContext } from "./reconcile_nodes.ts";
import { isServing, type RunnerState } from "./runner_status.ts";
import type { InstanceRetry, State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Telemetry } from "./telemetry.ts";
import type { Millis } from "./units.ts";

/** Attempts that an instance gets before it is given up, unless a wish sets its own (D14). */
export const INSTANCE_ATTEMPTS_MAX = 10;

/** The first wait before a retry; each doubles the one before. */
export const RETRY_DELAY_MS = 2_000;

/** The longest wait before a retry. */
export const RETRY_DELAY_MS_MAX = 60_000;

/** How long an instance must serve before its failures are forgotten. */
export const RETRY_RESET_MS = 60_000;

/** Why an instance of a wish is deleted when a node of it is gone, or a way between two. */
export const CONNECTION_LOST = "Network connection lost";

/** The wait before the attempt that follows `attempts` earlier ones. */
export function retryDelayMs(attempts: number): number {
  return Math.min(RETRY_DELAY_MS * 2 ** attempts, RETRY_DELAY_MS_MAX);
}

/**
 * Whether a failed instance may be tried again. A date that is further away than any wait was set
 * by a clock that has been turned back since: nobody waits for it.
 */
export function isRetryDue({ notBefore }: Pick<InstanceRetry, "notBefore">, now: Millis): boolean {
  return now >= notBefore || notBefore - now > RETRY_DELAY_MS_MAX;
}

/** What the reconciler of instances needs beyond the state. */
export interface InstancesContext extends NodesContext {
  readonly telemetry: Pick<Telemetry, "lastSeen" | "links">;
}

/**
 * InstanceHealth: what to do about the first instance that is not well. It alone counts failures
 * and sets the dates of retries (D14).
 */
export function reconcileInstances(state: State, context: InstancesContext): Event[] {
  for (const instance of state.instances.values()) {
    const events = reconcileInstance(state, instance, context);
    if (events.length > 0) return events;
  }
  return [];
}

/** A rank with the node that has it. */
interface Rank {
  readonly runnerId: RunnerId;
  readonly nodeName: string;
  readonly runner: RunnerState | undefined;
}

function reconcileInstance(state: State, instance: Instance, context: InstancesContext): Event[] {
  const { now } = context;
  const { instanceId, metaInstanceId } = instance;
  const meta = metaOf(state, instance);
  // It goes with its wish: the reconciler of wishes sees to that.
  if (metaInstanceId !== undefined && !meta) return [];
  const ranks = ranksOf(state, instance);
  if (!ranks) {
    const isLost = meta && isWithoutNode(state, instance, context);
    return isLost ? instanceEnd(state, instanceId, CONNECTION_LOST) : [];
  }
  if (ranks.some(isFailed)) {
    // Nobody is to wait for an answer until the last rank has been stopped.
    if (ranks.some(isAlive)) return tasksFailed(state, instance, reasonOf(instance, ranks));
    return failed(state, failureWith(state, instance, { meta, ranks }), context);
  }
  const since = hasFailed(state, instance) ? servingSince(ranks) : undefined;
  if (since === undefined || !isLong(now - since)) return [];
  return [{ type: "InstanceRetriesReset", instanceId }];
}

/** The ranks of an instance; undefined while a node of it is away. */
function ranksOf(state: State, instance: Instance): Rank[] | undefined {
  const ranks: Rank[] = [];
  for (const [nodeId, runnerId] of Object.entries(instance.shardAssignments.nodeToRunner)) {
    const node = state.nodes.get(nodeId as NodeId);
    if (!node) return undefined;
    const nodeName = node.info.friendlyName || nodeId;
    ranks.push({ runnerId, nodeName, runner: state.runners.get(runnerId) });
  }
  return ranks;
}

/**
 * Whether a node of the instance is gone. One that is heard of is about to introduce itself: after
 * a partition its instance may be known here before it is.
 */
function isWithoutNode(
  { nodes }: State,
  instance: Instance,
  { telemetry: { lastSeen }, uptime }: NodesContext,
): boolean {
  return nodesOf(instance).some((nodeId) =>
    !nodes.has(nodeId) && uptime - (lastSeen.get(nodeId) ?? -Infinity) >= NODE_TIMEOUT_MS
  );
}

/** An instance of which ranks have failed and none is left, and how often that may happen. */
interface Failure {
  readonly instance: Instance;
  readonly meta: MetaInstance | undefined;
  readonly reason: string;
  readonly attempts: number;
  readonly attemptsMax: number;
}

function failureWith(
  state: State,
  instance: Instance,
  { meta, ranks }: { readonly meta: MetaInstance | undefined; readonly ranks: readonly Rank[] },
): Failure {
  const reason = reasonOf(instance, ranks);
  if (meta) {
    const { consecutiveFailures: attempts, maxRetries: attemptsMax } = meta;
    return { instance, meta, reason, attempts, attemptsMax };
  }
  const attempts = state.instanceRetries.get(instance.instanceId)?.attempts ?? 0;
  return { instance, meta, reason, attempts, attemptsMax: INSTANCE_ATTEMPTS_MAX };
}

/** Tries the whole instance again later, or gives it up. */
function failed(state: State, failure: Failure, context: InstancesContext): Event[] {
  const { instance, meta, reason, attempts, attemptsMax } = failure;
  const { addresses, gaps } = waysOfRetry(state, instance, context.telemetry);
  if (gaps.length > 0) return apart(state, failure, { gaps, now: context.now });
  if (attempts < attemptsMax) return retried(state, failure, { addresses, now: context.now });
  // A merge can leave an instance with a parked wish: that stays parked as it is.
  const parked: Event[] = meta && meta.phase !== "parked"
    ? [{ type: "MetaInstanceParked", metaInstanceId: meta.metaInstanceId, reason }]
    : [];
  return [...instanceEnd(state, instance.instanceId, reason), ...parked];
}

/** Another attempt at other ports, and at other addresses where there are such. */
function retried(
  state: State,
  { instance, reason, attempts }: Failure,
  { addresses, now }: { readonly addresses?: RankAddress[] | undefined; readonly now: Millis },
): Event[] {
  const { instanceId } = instance;
  const moved = addresses ? withAddresses(instance, addresses) : instance;
  const ports = portsOfRetry(state, moved, attempts + 1);
  const retrying: Event = {
    type: "InstanceRetrying",
    instanceId,
    failureError: reason,
    notBefore: now + retryDelayMs(attempts),
    ...(ports ? { ports } : {}),
    ...(addresses ? { addresses } : {}),
  };
  return [...tasksFailed(state, instance, reason), retrying];
}

/**
 * Neighbours do not reach each other, as far as is known. Edges can be late, as after a node has
 * started anew: one more attempt is made as things are, and its reason says so. If that fails as
 * well, the instance of a wish ends and the wish is placed anew; any other waits for a way, and
 * counts nothing.
 */
function apart(
  state: State,
  failure: Failure,
  { gaps, now }: Pick<Ways, "gaps"> & { readonly now: Millis },
): Event[] {
  const { instance, meta, reason, attempts, attemptsMax } = failure;
  const { instanceId } = instance;
  const names = nodeNames(state);
  const found = listed(
    gaps.map(([source, sink]) => `${names.get(source)} does not reach ${names.get(sink)}`),
    ", ",
  );
  const hint = `bring them into one network, or remove it: exo instance delete ${instanceId}`;
  const told = meta ? found : `${found}: ${hint}`;
  const isTold = state.instanceRetries.get(instanceId)?.lastError.endsWith(told) ?? false;
  if (meta && (isTold || attempts >= attemptsMax)) {
    return instanceEnd(state, instanceId, `${CONNECTION_LOST}: ${found}`);
  }
  if (isTold) return tasksFailed(state, instance, reason);
  return retried(state, { ...failure, reason: `${reason}; ${told}` }, { now });
}

/** Why ranks of an instance have failed; undefined while none has. */
export function failureOf(state: State, instance: Instance): string | undefined {
  const ranks = ranksOf(state, instance) ?? [];
  return ranks.some(isFailed) ? reasonOf(instance, ranks) : undefined;
}

/** What each failed rank said, with the name of its node; by rank. */
function reasonOf(instance: Instance, ranks: readonly Rank[]): string {
  const order = runnersOf(instance);
  const reasons = [...ranks]
    .sort((a, b) => order.indexOf(a.runnerId) - order.indexOf(b.runnerId))
    .flatMap(({ nodeName, runner }) =>
      runner?.status.type === "RunnerFailed" && runner.status.reason
        ? [`${nodeName}: ${runner.status.reason}`]
        : []
    );
  return reasons.join("; ") || "Runner failed";
}

function tasksFailed(state: State, instance: Instance, errorMessage: string): Event[] {
  const { instanceId } = instance;
  const errorType = runnersOf(instance).length > 1 ? "group_broken" : "runner_failed";
  return [...state.tasks.values()]
    .filter((task) => task.instanceId === instanceId && isInFlight(task))
    .map(({ taskId }): Event => ({
      type: "TaskFailed",
      taskId,
      errorType,
      errorMessage,
    }));
}

function metaOf(state: State, { metaInstanceId }: Instance): MetaInstance | undefined {
  return metaInstanceId === undefined ? undefined : state.metaInstances.get(metaInstanceId);
}

/** Whether there are failures to forget: of the instance, or of others of its wish before it. */
function hasFailed(state: State, instance: Instance): boolean {
  const { consecutiveFailures = 0 } = metaOf(state, instance) ?? {};
  return consecutiveFailures > 0 || state.instanceRetries.has(instance.instanceId);
}

function isFailed({ runner }: Rank): boolean {
  return runner?.status.type === "RunnerFailed";
}

/** Absent is not alive: a stopped runner leaves the state. */
function isAlive({ runner }: Rank): boolean {
  return runner !== undefined && runner.status.type !== "RunnerFailed";
}

/** Nodes' clocks differ a little; a date that is a minute ahead was set by one that was turned. */
function isLong(servedMs: number): boolean {
  return Math.abs(servedMs) >= RETRY_RESET_MS;
}

/** Since when all ranks have served; undefined when one does not, or there are none. */
function servingSince(ranks: readonly Rank[]): Millis | undefined {
  let since: Millis | undefined;
  for (const { runner } of ranks) {
    if (!runner || !isServing(runner.status)) return undefined;
    since = Math.max(runner.since, since ?? 0);
  }
  return since;
}
