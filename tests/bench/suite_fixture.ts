import { MIB } from "../../core/units.ts";
import type { Run } from "../../bench/measure.ts";
import { ratiosOf } from "../../bench/ratios.ts";
import { serverReport, type Turn } from "../../bench/rounds.ts";
import type { SuiteReport } from "../../bench/suite_report.ts";

/** A turn whose every time is `slowness` times as long. */
function turn(round: number, slowness: number, loadMs: number | null): Turn {
  const piecesMs = Array.from({ length: 16 }, (_, index) => slowness * (640 + index * 100));
  const answer = {
    ...{ promptTokens: 64, cachedTokens: 0, completionTokens: 16, finishReason: "length" },
    ...{ piecesMs, endToEndMs: slowness * 2_140 },
  };
  const run: Run = { pp: 64, tg: 16, concurrency: 1, repeat: round, index: 0, answer };
  return {
    ...{ round, busyPercent: round === 0 ? 4 : 40, loadMs, firstAnswerMs: slowness * 1_000 },
    ...{ loadPartsMs: loadMs === 800 ? { loadModel: 200 } : {}, error: null, runs: [run] },
    peakBytes: { model: slowness * 100 * MIB },
  };
}

/** One run of the suite: exo is four times as fast as mlx-lm and half as fast as llama.cpp. */
export function suiteReport(): SuiteReport {
  const server = (name: string, slowness: number, loadMs: number | null, spare = 1) =>
    serverReport(
      { name, version: "1.0", settings: `${name} as it is` },
      [turn(0, slowness, loadMs), turn(1, slowness * spare, loadMs)],
    );
  const servers = [
    server("exo", 1, 800),
    { ...server("mlx-lm", 4, null) },
    server("llama.cpp", 0.5, 400),
  ];
  const mlxLm = servers[1];
  if (mlxLm) {
    const medians = { ...mlxLm.medians, firstAnswerMs: 2_000, peakBytes: { model: 200 * MIB } };
    servers[1] = { ...mlxLm, medians };
  }
  const medians = [
    { kind: "prompt", tokens: 64, concurrency: 1, tokensPerSecond: 250 },
    { kind: "decode", tokens: 16, concurrency: 1, tokensPerSecond: 25 },
  ] as const;
  const llamaBench = { version: "b1", rounds: [], medians };
  return {
    schemaVersion: 1,
    tool: { name: "exo", version: "0.1.0", commit: "abc", hasChanges: false },
    command: "deno task bench --peer mlx-lm --peer llama.cpp",
    startedAt: "2026-01-02T00:00:00.000Z",
    finishedAt: "2026-01-02T00:01:00.000Z",
    machine: {
      ...{ os: "Debian 12", arch: "x86_64", cpu: "A CPU", cores: 2 },
      ...{ memoryBytes: 24 * 1024 * MIB, deno: "2.9.6" },
    },
    model: { file: "m.gguf", bytes: 90 * MIB, sha256: "00" },
    settings: {
      ...{ lengths: [{ pp: 64, tg: 16 }], concurrency: [1], repeat: 1, warmup: 1 },
      ...{ rounds: 2, threads: 2 },
    },
    node: {
      startMs: { median: 180.4, all: [170, 180.4, 190] },
      idle: { seconds: 20, cpuPercent: 0.1, residentBytes: 83 * MIB },
    },
    servers,
    llamaBench,
    ratios: ratiosOf(servers, llamaBench),
    failed: 0,
  };
}
