/** The spans of a task's ranks, brought together beside the log (spec §2.7). */
import type { TaskId } from "./ids.ts";
import { drop, put } from "./state.ts";
import { type Span, SPANS_MAX } from "./trace.ts";

/** Most tasks whose traces wait for a rank; the oldest makes room. */
export const TRACES_WAITING_MAX = 256;

/** Most ranks of one task. */
export const TRACE_RANKS_MAX = 1_024;

/** The spans that have come, by task and rank. */
export type PendingTraces = ReadonlyMap<TaskId, ReadonlyMap<number, readonly Span[]>>;

/** Nothing has come. */
export const NO_TRACES: PendingTraces = new Map();

/** What one rank has measured of a task, and which ranks there are. */
export interface RankTrace {
  readonly taskId: TaskId;
  readonly rank: number;
  readonly spans: readonly Span[];
  /** How many ranks the task has. */
  readonly worldSize: number;
}

/**
 * Takes the spans of a rank; once those of all ranks are there they are one trace, in the order of
 * ranks, and forgotten here. A rank that tells them again replaces them.
 */
export function gatherTrace(
  pending: PendingTraces,
  { taskId, rank, spans, worldSize }: RankTrace,
): { pending: PendingTraces; trace?: Span[] } {
  if (rank < 0 || rank >= worldSize || worldSize > TRACE_RANKS_MAX) return { pending };
  const ranks = put(pending.get(taskId) ?? new Map(), rank, spans.slice(0, SPANS_MAX));
  if (ranks.size >= worldSize) {
    const trace = [...ranks].toSorted(([a], [b]) => a - b).flatMap(([, spans]) => spans);
    return { pending: drop(pending, taskId), trace };
  }
  const waiting = put(pending, taskId, ranks);
  const tooMany = [...waiting.keys()].slice(0, Math.max(0, waiting.size - TRACES_WAITING_MAX));
  return { pending: drop(waiting, ...tooMany) };
}

/** What waits of a task that has ended without all its ranks: the trace is as good as it gets. */
export function takeTrace(
  pending: PendingTraces,
  taskId: TaskId,
): { pending: PendingTraces; trace: Span[] } {
  const ranks = [...pending.get(taskId) ?? []].toSorted(([a], [b]) => a - b);
  return { pending: drop(pending, taskId), trace: ranks.flatMap(([, spans]) => spans) };
}
