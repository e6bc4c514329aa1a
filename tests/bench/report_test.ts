import { deepEqual, equal } from "node:assert/strict";
import type { Answered, BenchSettings, Measured, Run } from "../../bench/measure.ts";
import { medianTable, percentileTable, reportOf } from "../../bench/report.ts";
import { AppError } from "../../core/errors.ts";

const SETTINGS: BenchSettings = {
  lengths: [{ pp: 100, tg: 3 }],
  concurrency: [2],
  repeat: 1,
  warmup: 0,
};

const SUBJECT = {
  tool: { name: "exo", version: "0.1.0" },
  machine: { os: "linux", arch: "x86_64", cores: 2, deno: "2.9.0" },
  url: "http://node",
  model: "m",
  nodes: null,
  startedAt: "2026-01-01T00:00:00.000Z",
  finishedAt: "2026-01-01T00:01:00.000Z",
} as const;

const SIZES = [{ askedTokens: 100, words: 90, reachedTokens: 100 }];

function good(index: number, piecesMs: readonly number[], completionTokens = 3): Run {
  return {
    ...{ pp: 100, tg: 3, concurrency: 2, repeat: 0, index },
    answer: {
      promptTokens: 100,
      cachedTokens: 0,
      completionTokens,
      finishReason: "length",
      piecesMs,
      endToEndMs: (piecesMs.at(-1) ?? 0) + 50,
    },
  };
}

const bad: Run = {
  ...{ pp: 100, tg: 3, concurrency: 2, repeat: 1, index: 0 },
  error: { code: "queue_full", message: "Full" },
};

const report = (runs: readonly Run[], stop?: Measured["stop"]) =>
  reportOf({ sizes: SIZES, runs, stop }, SETTINGS, SUBJECT);

Deno.test("Speeds of a run are those of its own clock", () => {
  const { runs: [run] } = report([good(0, [200, 300, 450])]);
  deepEqual(run, {
    ...{ pp: 100, tg: 3, concurrency: 2, repeat: 0, index: 0 },
    ...{ promptTokens: 100, cachedTokens: 0, completionTokens: 3, pieces: 3 },
    finishReason: "length",
    ...{ ttftMs: 200, lastTextMs: 450, endToEndMs: 500 },
    promptTokensPerSecond: 500,
    decodeTokensPerSecond: 8,
    step: null,
    interTokenMs: { mean: 125, p50: 125, p90: 145, p99: 149.5, max: 150 },
    error: null,
  });
});

Deno.test("The token that ends an answer has no text, and is not timed", () => {
  const whole = good(0, [200, 300, 450]) as Run & { answer: Answered };
  const ended = { ...whole, answer: { ...whole.answer, finishReason: "stop" } };
  const counted = { ...ended, answer: { ...ended.answer, completionTokens: 4 } };
  // Two tokens may come as one piece; those that have no piece of their own count all the same.
  const merged = { ...counted, answer: { ...counted.answer, completionTokens: 7 } };
  const speeds = report([ended, counted, merged]).runs.map((run) => run.decodeTokensPerSecond);
  deepEqual(speeds, [8, 8, 20]);
});

Deno.test("A cell has medians of its runs, percentiles, and the speed of all together", () => {
  const { cells: [cell], failed } = report([
    good(0, [200, 300, 450]),
    good(1, [300, 400, 500]),
    bad,
  ]);
  equal(failed, 1);
  deepEqual(cell, {
    ...{ pp: 100, tg: 3, concurrency: 2, runs: 3, failed: 1, short: 0 },
    promptTokens: 100,
    promptTokensPerSecond: (500 + 1000 / 3) / 2,
    decodeTokensPerSecond: 9,
    ttftMs: 250,
    endToEndMs: 525,
    outputTokensPerSecond: 20,
    wallTokensPerSecond: 6 / 550 * 1_000,
    ttftPercentilesMs: { p50: 250, p90: 290, p99: 299 },
    step: null,
    interTokenMs: { mean: 112.5, p50: 100, p90: 135, p99: 148.5, max: 150 },
  });
});

Deno.test("Where an answer has one token, nothing is said of its decoding", () => {
  const { runs: [run], cells: [cell] } = report([good(0, [200], 1)]);
  deepEqual([run?.decodeTokensPerSecond, run?.interTokenMs], [null, null]);
  deepEqual([cell?.decodeTokensPerSecond, cell?.outputTokensPerSecond], [null, null]);
  deepEqual([cell?.short, cell?.wallTokensPerSecond], [1, 4]);
});

Deno.test("A bench that was stopped is partial and says why", () => {
  const whole = report([good(0, [1, 2])]);
  deepEqual([whole.outcome, whole.error, whole.schemaVersion], ["complete", null, 1]);
  const partial = report([], new AppError("cancelled", "Interrupted"));
  equal(partial.outcome, "partial");
  deepEqual(partial.error, { code: "cancelled", message: "Interrupted" });
  deepEqual(partial.cells, []);
});

Deno.test("Tables for people have one line for each cell, and a dash for what is not known", () => {
  const made = report([good(0, [200, 300, 450]), bad]);
  deepEqual(medianTable(made).rows, [
    ["100", "3", "2", "500", "8.00", "200", "500", "12.0", "1/2"],
  ]);
  deepEqual(percentileTable(made).rows, [
    ["100", "3", "2", "200", "200", "200", "125", "145", "150"],
  ]);
  deepEqual(medianTable(report([bad])).rows, [
    ["100", "3", "2", "-", "-", "-", "-", "-", "0/1"],
  ]);
});

Deno.test("The report is plain JSON", () => {
  const made = report([good(0, [200, 300, 450]), bad], new AppError("cancelled", "Interrupted"));
  deepEqual(JSON.parse(JSON.stringify(made)), made);
});
