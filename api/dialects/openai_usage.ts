import type { Chunk, GenerationStats, Usage } from "../../core/chunk.ts";

/** The last chunk of a generation that ended well. */
export type Finish = Extract<Chunk, { type: "Finish" }>;

/** Tokens and speeds of a whole reply. */
export type Counts = Pick<Finish, "usage" | "stats">;

/**
 * The counts of all choices as those of one reply. The prompt is counted once, as the choice found
 * it that found least of it in the cache; choices run side by side, so that their speeds add up.
 */
export function countsOf(ends: readonly [Finish, ...Finish[]]): Counts {
  const [only, ...others] = ends;
  if (others.length === 0) return only;
  const reader = ends.reduce((a, b) => b.usage.cachedTokens < a.usage.cachedTokens ? b : a);
  const sum = (count: (end: Finish) => number) => ends.reduce((all, end) => all + count(end), 0);
  const { decode: _, ...stats } = reader.stats;
  const queued = ends.flatMap(({ stats: { queueMilliseconds: ms } }) => ms === undefined ? [] : ms);
  return {
    usage: { ...reader.usage, completionTokens: sum(({ usage }) => usage.completionTokens) },
    stats: {
      ...stats,
      generationTokensPerSecond: sum(({ stats }) => stats.generationTokensPerSecond),
      peakMemoryBytes: Math.max(...ends.map(({ stats }) => stats.peakMemoryBytes)),
      ...(queued.length > 0 ? { queueMilliseconds: Math.max(...queued) } : {}),
    },
  };
}

/** Tokens as OpenAI's clients read them. */
export function encodeUsage({ promptTokens, completionTokens, cachedTokens }: Usage): object {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
}

/** What the engine measured, under names of ours. */
export function encodeStats({ usage, stats }: Counts): object {
  const { queueMilliseconds, decode } = stats;
  return {
    prompt_tps: stats.promptTokensPerSecond,
    generation_tps: stats.generationTokensPerSecond,
    prompt_tokens: usage.promptTokens,
    generation_tokens: usage.completionTokens,
    peak_memory_usage: { inBytes: stats.peakMemoryBytes },
    prefix_cache_hit: stats.prefixCacheHit ?? cacheHitOf(usage),
    ...(queueMilliseconds === undefined ? {} : { queue_ms: queueMilliseconds }),
    ...(decode ? { decode } : {}),
  };
}

/** The last token of a prompt is always computed, since the first answer comes out of it. */
function cacheHitOf(
  { promptTokens, cachedTokens }: Usage,
): NonNullable<GenerationStats["prefixCacheHit"]> {
  if (cachedTokens === 0) return "none";
  return cachedTokens >= promptTokens - 1 ? "exact" : "partial";
}
