import {
  type ServingFigures,
  type ServingReport,
  servingRows,
  type ServingServer,
} from "../../bench/serving_report.ts";

/** One turn of a server with these totals of 1 and 4 greedy streams. */
export function servingFigures(
  [alone, batched]: readonly [number, number],
  [p99Alone, p99Meanwhile]: readonly [number, number],
  repeatedTtftMs: number,
): ServingFigures {
  const cell = (concurrency: number, tokensPerSecond: number) => ({
    ...{ sampling: "greedy", concurrency, completionTokens: 128, seconds: 1 } as const,
    ...{ tokensPerSecond, clientCpuPercent: concurrency },
  });
  const gaps = (p99: number) => ({ count: 100, p50: p99 / 2, p99, max: 2 * p99 });
  return {
    throughput: [cell(1, alone), cell(4, batched)],
    intrusion: {
      ...{ streams: 4, longTtftMs: 700, clientCpuPercent: 7 },
      ...{ alone: gaps(p99Alone), meanwhile: gaps(p99Meanwhile) },
    },
    repeats: [{ promptTokens: 2_000, coldTtftMs: 1_000, repeatedTtftMs, cachedTokens: 1_999 }],
  };
}

/** Exo beside a llama.cpp that is slower at all but loading. */
export function servingServers(): ServingServer[] {
  const server = (name: string, busyPercent: number, figures: ServingFigures): ServingServer => ({
    ...{ name, version: "1.0", settings: "as it is" },
    rounds: [{ round: 0, busyPercent, figures, error: null }],
  });
  return [
    server("exo", 3, servingFigures([200, 300], [10, 100], 50)),
    server("llama.cpp", 40, servingFigures([100, 200], [100, 1_000], 500)),
  ];
}

/** One run of the benchmark. */
export function servingReport(): ServingReport {
  const servers = servingServers();
  return {
    ...{ schemaVersion: 1, command: "deno task bench:serving", finishedAt: "", failed: 0 },
    startedAt: "2026-01-02T00:00:00.000Z",
    tool: { name: "exo", version: "0.1.0", commit: "abc", hasChanges: false },
    machine: { os: "", arch: "", cpu: "A CPU", cores: 2, memoryBytes: 0, deno: "" },
    model: { file: "m.gguf", bytes: 100, sha256: "00" },
    settings: { pp: 64, tg: 128, longPp: 2_000, concurrency: [1, 4], rounds: 1, threads: 2 },
    ...{ servers, rows: servingRows(servers) },
  };
}
