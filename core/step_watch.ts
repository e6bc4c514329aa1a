/** When a group that has work counts as stuck: by the steps that it finishes (spec worker §13.3). */
import type { Chunk } from "./chunk.ts";
import type { Millis } from "./units.ts";

/** Longest time without a finished step, of a group that has work. */
export const STEP_MS_MAX = 30_000;

/** The same where a node of the group is out of reach: a suspicion, which a step disproves. */
export const SUSPECT_STEP_MS_MAX = 5_000;

/** Where steps are slow, so many times the median of them is waited for, ... */
const STEPS_LATE = 20;

/** ... and so many under suspicion: a group that still steps is not ended for it. */
const SUSPECT_STEPS_LATE = 3;

/** Paces that are remembered. */
const PACES_MAX = 15;

/** What is known of a group's steps. Times are of one clock that nobody sets. */
export interface StepWatch {
  /** When there began to be work, or the last finished step was heard of. */
  readonly since: Millis;
  /** Steps in all, as they were counted last. */
  readonly steps: number;
  /** From when on the next count says how long steps take. */
  readonly countedAt: Millis;
  /** Milliseconds of a step, by the last counts that had any. */
  readonly paces: readonly number[];
}

/** How long the next step is waited for. */
export interface StepLimit {
  /** When it is late. */
  readonly at: Millis;
  /** How long that is after the last one, or after what cut the time short. */
  readonly patienceMs: number;
}

/** Of a group that has done nothing yet. */
export const NO_STEPS: StepWatch = { since: 0, steps: 0, countedAt: 0, paces: [] };

/** There is work again: the time at rest was no step's. */
export function workBegan(watch: StepWatch, at: Millis): StepWatch {
  return { ...watch, since: at, countedAt: at };
}

/** The ranks have counted so many steps by now. */
export function stepsCounted(watch: StepWatch, steps: number, at: Millis): StepWatch {
  const done = steps - watch.steps;
  if (done <= 0) return watch;
  const pace = (at - watch.countedAt) / done;
  return { since: at, steps, countedAt: at, paces: [...watch.paces, pace].slice(-PACES_MAX) };
}

/** Something came of a request; unless it shows a step, that says nothing of the group. */
export function chunkCame(watch: StepWatch, { type }: Chunk, at: Millis): StepWatch {
  const isOfStep = type === "Token" || type === "PrefillProgress" || type === "Finish";
  return isOfStep ? { ...watch, since: at } : watch;
}

/** When the next step is late; `suspectSince` is from when on a node of the group is suspected. */
export function stepLimit({ since, paces }: StepWatch, suspectSince?: Millis): StepLimit {
  const median = paces.toSorted((a, b) => a - b)[Math.floor(paces.length / 2)] ?? 0;
  const limit = (from: Millis, ms: number, steps: number): StepLimit => {
    const patienceMs = Math.ceil(Math.max(ms, steps * median));
    return { at: from + patienceMs, patienceMs };
  };
  const usual = limit(since, STEP_MS_MAX, STEPS_LATE);
  if (suspectSince === undefined) return usual;
  const from = Math.max(since, suspectSince);
  const shorter = limit(from, SUSPECT_STEP_MS_MAX, SUSPECT_STEPS_LATE);
  return shorter.at < usual.at ? shorter : usual;
}
