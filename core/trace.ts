import { z } from "zod";
import type { TaskId } from "./ids.ts";
import type { Millis } from "./units.ts";

/** Most spans of one task: a prompt of 100,000 tokens and as long an answer have some 2,000. */
export const SPANS_MAX = 4_096;

/**
 * A stretch of the time that a task took. It never holds a word of a prompt or an answer, so a
 * trace may be shown to anybody.
 */
export const Span = z.object({
  name: z.string().min(1).max(64),
  /** Microseconds since 1970, by a clock that is never set: only differences are exact. */
  startUs: z.number().int().min(0),
  durationUs: z.number().int().min(0),
  rank: z.number().int().min(0),
  /** `outer`, or `outer/inner` for a part of it. */
  category: z.string().regex(/^[a-z]+(\/[a-z]+)*$/).max(64),
});
export type Span = z.infer<typeof Span>;

/** A trace that is kept. */
export interface TraceEntry {
  readonly taskId: TaskId;
  readonly createdAt: Millis;
  readonly bytes: number;
}

/** Whether a trace may have this id: it is a part of the name of its file, and leads nowhere. */
export function isTraceId(id: string): boolean {
  return /^[A-Za-z0-9][\w.-]{0,127}$/.test(id);
}

/**
 * Whether `EXO_TRACING_ENABLED` asks for traces; unset or empty, it does not. Undefined when it
 * says neither.
 */
export function asksForTraces(value: string | undefined): boolean | undefined {
  if (value === undefined || value === "" || value === "false" || value === "0") return false;
  return value === "true" || value === "1" ? true : undefined;
}

/** What a task's spans took. */
export interface SpanTotals {
  readonly totalUs: number;
  readonly count: number;
  readonly minUs: number;
  readonly maxUs: number;
  readonly avgUs: number;
}

type ByCategory = Readonly<Record<string, SpanTotals>>;

/** A task's spans, summed up. */
export interface TraceStats {
  /** From the first start to the last end. */
  readonly totalWallTimeUs: number;
  readonly byCategory: ByCategory;
  readonly byRank: Readonly<Record<string, { readonly byCategory: ByCategory }>>;
}

/** Sums spans up by category, over all ranks and for each. */
export function traceStats(spans: readonly Span[]): TraceStats {
  const starts = spans.map(({ startUs }) => startUs);
  const ends = spans.map(({ startUs, durationUs }) => startUs + durationUs);
  const byRank = Object.groupBy(spans, ({ rank }) => String(rank));
  return {
    totalWallTimeUs: spans.length === 0 ? 0 : Math.max(...ends) - Math.min(...starts),
    byCategory: byCategory(spans),
    byRank: Object.fromEntries(
      Object.entries(byRank).map(([rank, own = []]) => [rank, { byCategory: byCategory(own) }]),
    ),
  };
}

function byCategory(spans: readonly Span[]): ByCategory {
  const groups = Object.entries(Object.groupBy(spans, ({ category }) => category));
  return Object.fromEntries(groups.map(([category, own = []]) => [category, totalsOf(own)]));
}

function totalsOf(spans: readonly Span[]): SpanTotals {
  const durations = spans.map(({ durationUs }) => durationUs);
  const totalUs = durations.reduce((sum, one) => sum + one, 0);
  return {
    totalUs,
    count: durations.length,
    minUs: Math.min(...durations),
    maxUs: Math.max(...durations),
    avgUs: totalUs / durations.length,
  };
}

/**
 * A trace as viewers of Chrome's format read it: ranks are its threads. Source: Trace Event Format
 * (Google, 2016), complete events (`X`) and metadata (`M`).
 */
export const ChromeTrace = z.object({
  traceEvents: z.array(z.discriminatedUnion("ph", [
    z.object({
      ph: z.literal("X"),
      name: z.string(),
      cat: z.string(),
      ts: z.number(),
      dur: z.number(),
      pid: z.literal(0),
      tid: z.number(),
    }),
    z.object({
      ph: z.literal("M"),
      name: z.literal("thread_name"),
      pid: z.literal(0),
      tid: z.number(),
      args: z.object({ name: z.string() }),
    }),
  ])),
});
export type ChromeTrace = z.infer<typeof ChromeTrace>;

/** Spans in Chrome's format. */
export function toChromeTrace(spans: readonly Span[]): ChromeTrace {
  const pid = 0 as const;
  const ranks = [...new Set(spans.map(({ rank }) => rank))].sort((a, b) => a - b);
  const names = ranks.map((tid) => {
    const args = { name: `Rank ${tid}` };
    return { ph: "M" as const, name: "thread_name" as const, pid, tid, args };
  });
  const events = spans.map(({ name, category: cat, startUs: ts, durationUs: dur, rank: tid }) => {
    return { ph: "X" as const, name, cat, ts, dur, pid, tid };
  });
  return { traceEvents: [...names, ...events] };
}

/** The spans of a trace in Chrome's format, in the order of their starts. */
export function fromChromeTrace({ traceEvents }: ChromeTrace): Span[] {
  const spans = traceEvents.flatMap((event) => {
    if (event.ph !== "X") return [];
    const { name, cat: category, ts: startUs, dur: durationUs, tid: rank } = event;
    return [{ name, category, startUs, durationUs, rank }];
  });
  return spans.sort((a, b) => a.startUs - b.startUs || b.durationUs - a.durationUs);
}
