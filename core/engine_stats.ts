import { z } from "zod";
import type { RunnerId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";

const count = z.number().int().min(0);
const rate = z.number().min(0);

/** What a rank has sent to the others since it was loaded, and how long it waited for them. */
export const GroupTraffic = z.object({
  bytesSent: count,
  framesSent: count,
  waitedMs: z.number().min(0),
});
export type GroupTraffic = z.infer<typeof GroupTraffic>;

/** What an engine counts; totals are since its start, without the warm-up. */
export const EngineCounts = z.object({
  /** Generations that are computed. */
  running: count,
  /** Generations that wait, and how long the first of them has. */
  queued: count,
  longestWaitMilliseconds: z.number().min(0),
  /** Sequences in the last step. */
  batchSize: count,
  requests: count,
  preemptions: count,
  /** Prompt tokens of generations that have begun, computed or found in the prefix cache. */
  promptTokens: count,
  /** Of the prompt tokens, those that were found in the prefix cache. */
  cachedTokens: count,
  /** Tokens read in prefill: prompts less what was cached, and all again after a preemption. */
  prefillTokens: count,
  generatedTokens: count,
  steps: count,
  memory: z.object({
    weightBytes: count,
    /** Keys and values of generations that run. */
    kvBytes: count,
    /** Keys and values that are kept for requests to come, and those of nobody else. */
    prefixCacheBytes: count,
    /** Most that keys and values of both kinds may take. */
    kvBudgetBytes: count,
  }),
  /** Absent where a model has one rank. */
  group: GroupTraffic.optional(),
});
export type EngineCounts = z.infer<typeof EngineCounts>;

/** How the engine of a runner is doing: a latest value, never in the log. */
export const EngineStats = EngineCounts.extend({
  /** Tokens read in prefill, over the time since the stats before; 0 at rest. */
  promptTokensPerSecond: rate,
  /** Tokens that were generated, over the time since the stats before; 0 at rest. */
  generationTokensPerSecond: rate,
});
export type EngineStats = z.infer<typeof EngineStats>;

/** The stats of an engine at work: rates of what it did in the last `milliseconds`. */
export function statsAtWork(
  before: EngineCounts,
  now: EngineCounts,
  milliseconds: number,
): EngineStats {
  const perSecond = (tokens: number) =>
    milliseconds > 0 ? Math.max(0, tokens) * 1000 / milliseconds : 0;
  return {
    ...now,
    promptTokensPerSecond: perSecond(now.prefillTokens - before.prefillTokens),
    generationTokensPerSecond: perSecond(now.generatedTokens - before.generatedTokens),
  };
}

/** The stats of an engine that has nothing to do. */
export function statsAtRest(counts: EngineCounts): EngineStats {
  return { ...counts, batchSize: 0, promptTokensPerSecond: 0, generationTokensPerSecond: 0 };
}

/**
 * The stats of an instance: what its first rank counts, and the memory of all ranks that have told.
 * Undefined until the first rank has.
 */
export function instanceStats(
  instance: Instance,
  stats: ReadonlyMap<RunnerId, EngineStats>,
): EngineStats | undefined {
  const told = runnersOf(instance).map((runnerId) => stats.get(runnerId));
  const [first] = told;
  if (!first) return undefined;
  const memory = { weightBytes: 0, kvBytes: 0, prefixCacheBytes: 0, kvBudgetBytes: 0 };
  for (const one of told) {
    memory.weightBytes += one?.memory.weightBytes ?? 0;
    memory.kvBytes += one?.memory.kvBytes ?? 0;
    memory.prefixCacheBytes += one?.memory.prefixCacheBytes ?? 0;
    memory.kvBudgetBytes += one?.memory.kvBudgetBytes ?? 0;
  }
  const group = told.flatMap((one) => one?.group ?? []).reduce(sumOf, undefined);
  return { ...first, memory, ...(group ? { group } : {}) };
}

function sumOf(sum: GroupTraffic | undefined, one: GroupTraffic): GroupTraffic {
  return {
    bytesSent: (sum?.bytesSent ?? 0) + one.bytesSent,
    framesSent: (sum?.framesSent ?? 0) + one.framesSent,
    waitedMs: (sum?.waitedMs ?? 0) + one.waitedMs,
  };
}

/** Bytes between the ranks for each token that was generated; undefined before the first. */
export function bytesPerToken(
  { group, generatedTokens }: Pick<EngineCounts, "group" | "generatedTokens">,
): number | undefined {
  return group && generatedTokens > 0 ? group.bytesSent / generatedTokens : undefined;
}

/** Part of the prompt tokens that were found in the prefix cache; undefined before the first. */
export function cacheHitRatio(
  { promptTokens, cachedTokens }: Pick<EngineCounts, "promptTokens" | "cachedTokens">,
): number | undefined {
  return promptTokens > 0 ? cachedTokens / promptTokens : undefined;
}
