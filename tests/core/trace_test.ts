import { deepEqual, equal } from "node:assert/strict";
import {
  asksForTraces,
  ChromeTrace,
  fromChromeTrace,
  isTraceId,
  Span,
  toChromeTrace,
  traceStats,
} from "../../core/trace.ts";

const span = (category: string, startUs: number, durationUs: number, rank = 0): Span =>
  Span.parse({ name: category, category, startUs, durationUs, rank });

const SPANS = [
  span("queue", 1_000, 50),
  span("prefill/chunk", 1_050, 100),
  span("prefill/chunk", 1_150, 300),
  span("prefill/chunk", 1_060, 200, 1),
  span("decode", 1_450, 550),
];

Deno.test("traceStats() sums up by category, over all ranks and for each", () => {
  const stats = traceStats(SPANS);
  equal(stats.totalWallTimeUs, 1_000);
  deepEqual(Object.keys(stats.byCategory), ["queue", "prefill/chunk", "decode"]);
  deepEqual(stats.byCategory["prefill/chunk"], {
    totalUs: 600,
    count: 3,
    minUs: 100,
    maxUs: 300,
    avgUs: 200,
  });
  const once = { totalUs: 200, count: 1, minUs: 200, maxUs: 200, avgUs: 200 };
  deepEqual(stats.byRank["1"], { byCategory: { "prefill/chunk": once } });
  equal(stats.byRank["0"]?.byCategory["prefill/chunk"]?.totalUs, 400);
  deepEqual(traceStats([]), { totalWallTimeUs: 0, byCategory: {}, byRank: {} });
});

Deno.test("toChromeTrace() has a named thread for each rank, and fromChromeTrace() reads it", () => {
  const trace = toChromeTrace(SPANS);
  deepEqual(trace.traceEvents.slice(0, 3), [
    { ph: "M", name: "thread_name", pid: 0, tid: 0, args: { name: "Rank 0" } },
    { ph: "M", name: "thread_name", pid: 0, tid: 1, args: { name: "Rank 1" } },
    { ph: "X", name: "queue", cat: "queue", ts: 1_000, dur: 50, pid: 0, tid: 0 },
  ]);
  const read = fromChromeTrace(ChromeTrace.parse(JSON.parse(JSON.stringify(trace))));
  deepEqual(read, SPANS.toSorted((a, b) => a.startUs - b.startUs));
});

Deno.test("fromChromeTrace() puts a span before its parts that begin with it", () => {
  const [part, whole] = [span("prefill/chunk", 1_000, 50), span("prefill", 1_000, 200)];
  deepEqual(fromChromeTrace(toChromeTrace([part, whole])), [whole, part]);
});

Deno.test("isTraceId() takes what newId() makes, and nothing that leads elsewhere", () => {
  for (const id of [crypto.randomUUID(), "t-1", "a.b"]) equal(isTraceId(id), true, id);
  const wrong = ["", ".", "..", "../x", "a/b", "a\\b", "/x", "a\0", "x".repeat(200), ".hidden"];
  for (const id of wrong) equal(isTraceId(id), false, id);
});

Deno.test("asksForTraces() knows yes, no and neither", () => {
  for (const yes of ["true", "1"]) equal(asksForTraces(yes), true);
  for (const no of [undefined, "", "false", "0"]) equal(asksForTraces(no), false);
  for (const neither of ["yes", "TRUE", "2"]) equal(asksForTraces(neither), undefined);
});
