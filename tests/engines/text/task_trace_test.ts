import { deepEqual, equal } from "node:assert/strict";
import { Span, SPANS_MAX } from "../../../core/trace.ts";
import { DECODE_STEPS_TRACED, TaskTrace } from "../../../engines/text/task_trace.ts";

const TRACING = { rank: 2, originMs: 1_000_000 };

const shown = (spans: readonly Span[]) =>
  spans.map(({ name, category, startUs, durationUs }) => [name, category, startUs, durationUs]);

Deno.test("TaskTrace tells queue, prefill by chunk and decode by every 64th step", () => {
  const trace = new TaskTrace(TRACING, 5);
  trace.prefilled(512, { from: 8, to: 10 });
  trace.prefilled(88, { from: 12, to: 13.5 });
  for (let n = 0; n < 2 * DECODE_STEPS_TRACED + 1; n++) {
    trace.decoded({ from: 20 + n, to: 20.5 + n });
  }
  const origin = 1_000_000_000;
  const spans = trace.spans(999);
  deepEqual(shown(spans), [
    ["queue", "queue", origin + 5_000, 3_000],
    ["prefill", "prefill", origin + 8_000, 5_500],
    ["chunk of 512 tokens", "prefill/chunk", origin + 8_000, 2_000],
    ["chunk of 88 tokens", "prefill/chunk", origin + 12_000, 1_500],
    ["decode", "decode", origin + 20_000, 128_500],
    ["step 64", "decode/step", origin + 83_000, 500],
    ["step 128", "decode/step", origin + 147_000, 500],
  ]);
  for (const span of spans) equal(Span.parse(span).rank, 2);
});

Deno.test("TaskTrace of a task that ends in the queue is its wait", () => {
  const spans = new TaskTrace({ rank: 0, originMs: 0 }, 5).spans(7.25);
  deepEqual(shown(spans), [["queue", "queue", 5_000, 2_250]]);
});

Deno.test("TaskTrace of an endless task has a bound, and the whole of it", () => {
  const trace = new TaskTrace({ rank: 0, originMs: 0 }, 0);
  for (let n = 0; n < SPANS_MAX + 10; n++) trace.prefilled(1, { from: n, to: n + 1 });
  trace.decoded({ from: SPANS_MAX + 10, to: SPANS_MAX + 12 });
  const spans = trace.spans(0);
  equal(spans.length, SPANS_MAX);
  equal(spans.find(({ name }) => name === "prefill")?.durationUs, (SPANS_MAX + 10) * 1000);
  equal(spans.find(({ name }) => name === "decode")?.durationUs, 2_000);
});

Deno.test("TaskTrace keeps what is read again after a preemption out of the prefill", () => {
  const trace = new TaskTrace({ rank: 0, originMs: 0 }, 0);
  trace.prefilled(9, { from: 1, to: 2 });
  trace.decoded({ from: 2, to: 3 });
  trace.prefilled(10, { from: 7, to: 8 });
  trace.decoded({ from: 8, to: 9 });
  deepEqual(shown(trace.spans(9)), [
    ["queue", "queue", 0, 1_000],
    ["prefill", "prefill", 1_000, 1_000],
    ["chunk of 9 tokens", "prefill/chunk", 1_000, 1_000],
    ["decode", "decode", 2_000, 7_000],
    ["chunk of 10 tokens", "prefill/chunk", 7_000, 1_000],
  ]);
});
