import { type EngineReport, type EngineRound, engineRows } from "../../bench/engine_report.ts";
import { MIB } from "../../core/units.ts";

/** Sizes of a model of which little is asked, and of one of which much is. */
export const SMALL = { weightBytes: 100 * MIB, tokenBytes: 90 * MIB };
export const LARGE = { weightBytes: 300 * MIB, tokenBytes: 300 * MIB };

/** A round in which we decode 200 tokens per second, times `speed`, and llama.cpp 100. */
export function engineRound(
  threads: number,
  speed = 1,
  peakGrowthBytes: number | null = 330 * MIB,
): EngineRound {
  return {
    ...{ round: 0, threads, busyPercent: null },
    exo: {
      load: { ms: 250, peakGrowthBytes },
      prompt: { tokens: 512, tokensPerSecond: 900 * speed },
      decode: {
        ...{ promptTokens: 32, tokens: 63, tokensPerSecond: 200 * speed },
        ...{ stepMs: 5 / speed, kernelMs: { linear: 4 / speed, attention: 0.8 / speed } },
      },
      atOnce: threads === 1 ? [] : [{ concurrency: 8, tokensPerSecond: 600 * speed }],
    },
    llamaCpp: [
      { kind: "prompt", tokens: 512, concurrency: 1, tokensPerSecond: 300 },
      { kind: "decode", tokens: 64, concurrency: 1, tokensPerSecond: 100 },
      { kind: "prompt", tokens: 32, concurrency: 8, tokensPerSecond: 250 },
      { kind: "decode", tokens: 64, concurrency: 8, tokensPerSecond: 200 },
    ],
    readBytesPerSecond: 20e9,
  };
}

/** One run: twice as fast as llama.cpp in decoding. */
export function engineReport(): EngineReport {
  const rounds = [engineRound(2)];
  return {
    ...{ schemaVersion: 1, command: "deno task bench:engine", finishedAt: "" },
    startedAt: "2026-01-02T00:00:00.000Z",
    tool: { name: "exo", version: "0.1.0", commit: "abc", hasChanges: false },
    machine: { os: "", arch: "", cpu: "", cores: 2, memoryBytes: 0, deno: "" },
    model: { file: "m.gguf", bytes: 100 * MIB, sha256: "00", ...SMALL },
    settings: { pp: 512, tg: 64, concurrency: [8], threads: [2], rounds: 1, llamaCpp: "b1" },
    ...{ rounds, rows: engineRows(rounds, SMALL) },
  };
}
