import { z } from "zod";

const count = z.number().int().min(0);

/** How the engine of a runner is doing: a latest value, never in the log. Totals are since its start. */
export const EngineStats = z.object({
  /** Generations that are computed. */
  running: count,
  /** Generations that wait, and how long the first of them has. */
  queued: count,
  longestWaitMilliseconds: z.number().min(0),
  /** Sequences in the last step. */
  batchSize: count,
  requests: count,
  preemptions: count,
  promptTokens: count,
  /** Of the prompt tokens, those that were found in the prefix cache. */
  cachedTokens: count,
  generatedTokens: count,
  steps: count,
  /** Over the time since the stats before these. */
  promptTokensPerSecond: z.number().min(0),
  generationTokensPerSecond: z.number().min(0),
  memory: z.object({
    weightBytes: count,
    /** Keys and values of generations that run. */
    kvBytes: count,
    /** Keys and values that are kept for requests to come, and those of nobody else. */
    prefixCacheBytes: count,
    /** Most that keys and values of both kinds may take. */
    kvBudgetBytes: count,
  }),
});
export type EngineStats = z.infer<typeof EngineStats>;
