import { deepEqual, equal, match, ok } from "node:assert/strict";
import {
  cellsOf,
  engineLines,
  type EngineRow,
  engineRows,
  weightSizes,
} from "../../bench/engine_report.ts";
import type { GgufHeader } from "../../core/gguf.ts";
import { MIB } from "../../core/units.ts";
import { engineReport, engineRound as round, LARGE, SMALL } from "./engine_fixture.ts";

function rowOf(rows: readonly EngineRow[], metric: RegExp, threads = 2): EngineRow {
  const found = rows.find((row) => metric.test(row.metric) && row.threads === threads);
  ok(found, `a row for ${metric}`);
  return found;
}

Deno.test("engineRows() divides medians over the rounds, thread count by thread count", () => {
  const rows = engineRows([round(1, 0.5), round(2, 0.1), round(2), round(2, 9)], SMALL);
  deepEqual([rowOf(rows, /^decode$/).ours, rowOf(rows, /^decode$/).ratio], [200, 2]);
  deepEqual(rowOf(rows, /^decode$/).asked, { ratio: 1.3, better: "higher" });
  deepEqual(rowOf(rows, /^decode$/, 1).asked, { ratio: 1.2, better: "higher" });
  equal(rowOf(rows, /^decode$/, 1).ratio, 1);
  equal(rowOf(rows, /^prefill$/).ratio, 3);
  deepEqual([rowOf(rows, /8 at once/).ratio, rowOf(rows, /8 at once/).asked?.ratio], [3, 2.5]);
  equal(rows.some(({ metric, threads }) => /at once/.test(metric) && threads === 1), false);
});

Deno.test("engineRows() holds the bytes that are read against the plain loop", () => {
  const { ours, against, ratio } = rowOf(engineRows([round(2)], SMALL), /weights read/);
  deepEqual([ours, against], [200 * 90 * MIB / 1e9, 20]);
  equal(ratio, ours / 20);
});

Deno.test("engineRows() asks for more of a large model's step and memory", () => {
  const [small, large] = [engineRows([round(2)], SMALL), engineRows([round(2)], LARGE)];
  const outside = rowOf(large, /outside/);
  ok(Math.abs((outside.ratio ?? NaN) - 0.04) < 1e-9);
  deepEqual([rowOf(small, /outside/).asked?.ratio, outside.asked?.ratio], [0.1, 0.03]);
  deepEqual([rowOf(small, /peak memory/).asked, rowOf(large, /peak memory/).ratio], [null, 1.1]);
  equal(rowOf(large, /peak memory/).asked?.ratio, 1.15);
  equal(rowOf(large, /^decode$/).asked, null);
});

Deno.test("engineRows() leaves out what was not measured", () => {
  const rows = engineRows([round(2, 1, null)], SMALL);
  equal(rows.some(({ metric }) => /peak memory/.test(metric)), false);
  deepEqual([rowOf(rows, /Loaded/).against, rowOf(rows, /Loaded/).ratio], [null, null]);
});

Deno.test("A ratio that misses what was asked says so", () => {
  const row = { metric: "decode", threads: 2, unit: "tok/s", ours: 120, against: 100 } as const;
  const asked = { ratio: 1.3, better: "higher" } as const;
  deepEqual(cellsOf({ ...row, ratio: 1.2, asked }).slice(-2), ["1.20", "≥ 1.3 (missed)"]);
  deepEqual(cellsOf({ ...row, ratio: 1.3, asked }).slice(-2), ["1.30", "≥ 1.3"]);
  const less = { ratio: 0.1, better: "lower" } as const;
  deepEqual(cellsOf({ ...row, ratio: 0.09, asked: less }).at(-1), "≤ 0.1");
  deepEqual(cellsOf({ ...row, against: null, ratio: null, asked: null }).slice(-3), [
    ...["-", "-", "-"],
  ]);
});

Deno.test("engineLines() lays the rows out under a head", () => {
  const [head = "", ...lines] = engineLines(engineReport());
  match(head, /^What +Threads +exo +Against +Ratio +Asked$/);
  match(lines[0] ?? "", /^prefill +2 +900 tok\/s +300 tok\/s +3\.00 +≥ 2$/);
  match(lines.at(-1) ?? "", /llama\.cpp b1; medians of 1$/);
});

Deno.test("engineLines() tells how often others were at work", () => {
  const report = engineReport();
  const rounds = [5, 10, 11, null].flatMap((busyPercent) =>
    report.rounds.map((one) => ({ ...one, busyPercent }))
  );
  match(engineLines({ ...report, rounds }).at(-1) ?? "", /; others used .* before 1 of 4 turns$/);
});

Deno.test("engineLines() tells answers that ended too early", () => {
  const report = engineReport();
  const [first] = report.rounds;
  ok(first);
  const decode = { ...first.exo.decode, tokens: 20 };
  const rounds = [first, { ...first, threads: 1, exo: { ...first.exo, decode } }];
  const lines = engineLines({ ...report, rounds });
  equal(lines.at(-1), "Round 1, threads: 1: the answer ended after 21 tokens");
  match(lines.at(-2) ?? "", /medians of 1$/);
});

Deno.test("weightSizes() leaves out an embedding beside a head, of which a row is read", () => {
  const tensor = (name: string, bytes: number) => ({
    ...{ name, bytes, shape: [bytes], type: "F32", offset: 0 },
  });
  const header = (tensors: GgufHeader["tensors"]): GgufHeader => ({
    ...{ version: 3, metadata: new Map(), tensors, dataOffset: 0, alignment: 32 },
  });
  const [embedding, layer, head] = [
    tensor("token_embd.weight", 8),
    tensor("blk.0.attn_q.weight", 4),
    tensor("output.weight", 2),
  ];
  deepEqual(weightSizes(header([embedding, layer])), { weightBytes: 12, tokenBytes: 12 });
  deepEqual(weightSizes(header([embedding, layer, head])), { weightBytes: 14, tokenBytes: 6 });
});
