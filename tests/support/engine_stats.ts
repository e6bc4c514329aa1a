import type { EngineStats } from "../../core/engine_stats.ts";

/** Stats with zeros for what a test does not care about. */
export function engineStats(fields: Partial<EngineStats> = {}): EngineStats {
  return {
    running: 0,
    queued: 0,
    longestWaitMilliseconds: 0,
    batchSize: 0,
    requests: 0,
    preemptions: 0,
    promptTokens: 0,
    cachedTokens: 0,
    prefillTokens: 0,
    generatedTokens: 0,
    steps: 0,
    promptTokensPerSecond: 0,
    generationTokensPerSecond: 0,
    memory: { weightBytes: 0, kvBytes: 0, prefixCacheBytes: 0, kvBudgetBytes: 0 },
    ...fields,
  };
}
