import assert from "node:assert/strict";
import {
  gatherTrace,
  NO_TRACES,
  type PendingTraces,
  type RankTrace,
  takeTrace,
  TRACE_RANKS_MAX,
  TRACES_WAITING_MAX,
} from "../../core/trace_gather.ts";
import { type Span, SPANS_MAX } from "../../core/trace.ts";
import { taskId } from "../support/fixtures.ts";

const span = (rank: number): Span => ({
  name: "prefill",
  startUs: 1,
  durationUs: 2,
  rank,
  category: "compute",
});
const traceOf = (rank: number, fields: Partial<RankTrace> = {}): RankTrace => ({
  taskId: taskId("t"),
  rank,
  spans: [span(rank)],
  worldSize: 2,
  ...fields,
});
const gatherAll = (...traces: readonly RankTrace[]) =>
  traces.reduce<ReturnType<typeof gatherTrace>>(
    ({ pending }, one) => gatherTrace(pending, one),
    { pending: NO_TRACES },
  );

Deno.test("a trace is whole once all ranks have told, in the order of ranks, and forgotten", () => {
  const { pending, trace } = gatherAll(traceOf(1), traceOf(0));
  assert.deepEqual(trace, [span(0), span(1)]);
  assert.equal(pending.size, 0);
});

Deno.test("a rank that tells again replaces what it told, and tasks do not mix", () => {
  const other = traceOf(0, { taskId: taskId("u") });
  const { pending, trace } = gatherAll(traceOf(0), traceOf(0, { spans: [] }), other);
  assert.equal(trace, undefined);
  assert.deepEqual(gatherTrace(pending, traceOf(1)).trace, [span(1)]);
});

Deno.test("a task that has ended without one of its ranks has the trace of the others", () => {
  const { pending } = gatherAll(traceOf(2, { worldSize: 3 }), traceOf(0, { worldSize: 3 }));
  const taken = takeTrace(pending, taskId("t"));
  assert.deepEqual(taken, { pending: new Map(), trace: [span(0), span(2)] });
  assert.deepEqual(takeTrace(NO_TRACES, taskId("t")), { pending: NO_TRACES, trace: [] });
});

Deno.test("what waits is bounded: the oldest task makes room, no rank tells without end", () => {
  const many = Array.from(
    { length: TRACES_WAITING_MAX + 1 },
    (_, n) => traceOf(0, { taskId: taskId(`t${n}`) }),
  );
  const { pending } = gatherAll(...many);
  assert.equal(pending.size, TRACES_WAITING_MAX);
  assert.equal(pending.has(taskId("t0")), false);
  const spans = Array.from({ length: SPANS_MAX + 1 }, () => span(0));
  const { trace } = gatherAll(traceOf(0, { spans, worldSize: 1 }));
  assert.equal(trace?.length, SPANS_MAX);
});

Deno.test("a rank that cannot be is none", () => {
  const wrong: Partial<RankTrace>[] = [
    { rank: -1 },
    { rank: 2 },
    { rank: 0, worldSize: TRACE_RANKS_MAX + 1 },
  ];
  for (const fields of wrong) {
    const pending: PendingTraces = NO_TRACES;
    assert.equal(gatherTrace(pending, traceOf(0, fields)).pending, pending);
  }
});
