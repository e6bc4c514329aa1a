import type { Event } from "./events.ts";
import type { InstanceId, ModelId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import type { ModelCard } from "./model_card.ts";
import type { Telemetry } from "./telemetry.ts";
import { instanceEnd } from "./master.ts";
import type { RunnerState } from "./runner_status.ts";
import { isServing } from "./runner_status.ts";
import type { InstanceRetry, State } from "./state.ts";
import type { Millis } from "./units.ts";

/** Attempts that an instance gets before it is given up (design D14). */
export const INSTANCE_ATTEMPTS_MAX = 10;

/** The first wait before a retry; each doubles the one before. */
export const RETRY_DELAY_MS = 2_000;

/** The longest wait before a retry. */
export const RETRY_DELAY_MS_MAX = 60_000;

/** How long an instance must serve before its failures are forgotten. */
export const RETRY_RESET_MS = 60_000;

/** What the reconcilers need beyond the state. */
export interface ReconcileContext {
  readonly telemetry: Telemetry;
  /** The date, for what is written into events. */
  readonly now: Millis;
  /** The time of `telemetry.lastSeen`: a clock that nobody sets. */
  readonly uptime: Millis;
  /** What could be found out about models that wishes name, and why not. */
  readonly cards: ReadonlyMap<ModelId, CardLookup>;
  /** The id of the instance that is created next, if one is. */
  readonly freshId: InstanceId;
}

/** A model's card, or why nobody knows it. */
export type CardLookup =
  | { readonly ok: true; readonly modelCard: ModelCard }
  | { readonly ok: false; readonly reason: string };

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

/**
 * The next events that bring the instances nearer to health; none once all are well or waiting.
 * Level-triggered: asks what is, not what happened.
 */
export function reconcile(state: State, { now }: ReconcileContext): Event[] {
  for (const instance of state.instances.values()) {
    const events = instanceHealth(state, instance, now);
    if (events.length > 0) return events;
  }
  return [];
}

/** When `reconcile` should look again if nothing changes before; undefined for never. */
export function nextReconcileAt(state: State): Millis | undefined {
  const times: Millis[] = [];
  for (const instance of state.instances.values()) {
    if (!state.instanceRetries.has(instance.instanceId)) continue;
    const runners = runnersOf(instance).map((id) => state.runners.get(id));
    if (!runners.every((runner) => isServing(runner?.status))) continue;
    times.push(servingSince(runners) + RETRY_RESET_MS);
  }
  return times.length === 0 ? undefined : Math.min(...times);
}

function instanceHealth(state: State, instance: Instance, now: Millis): Event[] {
  const { instanceId } = instance;
  const runners = runnersOf(instance).map((id) => state.runners.get(id));
  const retry = state.instanceRetries.get(instanceId);
  const reasons = failures(runners);
  if (reasons.length > 0 && !runners.some(isAlive)) {
    return failed(state, instance, reasons.join("; "), retry, now);
  }
  const serves = runners.every((runner) => isServing(runner?.status));
  if (retry && serves && hasServedLong(servingSince(runners), now)) {
    return [{ type: "InstanceRetriesReset", instanceId }];
  }
  return [];
}

function failed(
  state: State,
  { instanceId }: Instance,
  failureError: string,
  retry: InstanceRetry | undefined,
  now: Millis,
): Event[] {
  const attempts = retry?.attempts ?? 0;
  if (attempts >= INSTANCE_ATTEMPTS_MAX) return instanceEnd(state, instanceId, failureError);
  const notBefore = now + retryDelayMs(attempts);
  return [{ type: "InstanceRetrying", instanceId, failureError, notBefore }];
}

/** The reasons of the runners that failed. */
function failures(runners: readonly (RunnerState | undefined)[]): string[] {
  return runners.flatMap((runner) =>
    runner?.status.type === "RunnerFailed" ? [runner.status.reason || "Runner failed"] : []
  );
}

/** Absent, failed and stopped runners are not alive. */
function isAlive(runner: RunnerState | undefined): boolean {
  return runner !== undefined && runner.status.type !== "RunnerFailed" &&
    runner.status.type !== "RunnerShutdown";
}

/** Also when the clock was turned back: better forgotten too early than in hours. */
function hasServedLong(since: Millis, now: Millis): boolean {
  return now >= since + RETRY_RESET_MS || now < since;
}

function servingSince(runners: readonly (RunnerState | undefined)[]): Millis {
  return Math.max(0, ...runners.map((runner) => runner?.since ?? 0));
}
