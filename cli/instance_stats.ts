import { z } from "zod";
import { bytesPerToken, cacheHitRatio, type EngineStats } from "../core/engine_stats.ts";
import { formatBytes } from "../core/units.ts";

const count = z.number().int();

/** How an instance's engine is doing, as the command line tells it. */
export const StatsView = z.strictObject({
  generationTokensPerSecond: z.number().describe("Tokens generated in the last second; 0 at rest"),
  promptTokensPerSecond: z.number()
    .describe("Prompt tokens computed in the last second; 0 at rest"),
  running: count.describe("Generations that are computed"),
  queued: count.describe("Generations that wait for their turn"),
  longestWaitMs: z.number().describe("How long the first of those has waited"),
  batchSize: count.describe("Generations in the last step; 0 at rest"),
  cacheHitRatio: z.number().nullable().describe(
    "Part of all prompt tokens that was found in the prefix cache; null before the first",
  ),
  requests: count.describe("Generations that were taken, since its runner's start"),
  preemptions: count.describe("How often one made room for another, since then"),
  promptTokens: count.describe("Prompt tokens, computed or cached, since then"),
  cachedTokens: count.describe("Of them, those from the prefix cache"),
  generatedTokens: count.describe("Tokens generated since then"),
  weightBytes: count.describe("Memory of the weights"),
  kvBytes: count.describe("Memory of keys and values of generations that run"),
  prefixCacheBytes: count.describe("Memory of keys and values kept for later requests"),
  kvBudgetBytes: count.describe("Most that both kinds may take"),
  bytesPerToken: z.number().nullable().describe(
    "Bytes that ranks sent to each other for each generated token; null where there is one rank",
  ),
});
export type StatsView = z.infer<typeof StatsView>;

/** Stats as commands print them. */
export function statsView(stats: EngineStats): StatsView {
  const { longestWaitMilliseconds, prefillTokens: _, steps: __, group: ___, memory, ...rest } =
    stats;
  return {
    ...rest,
    longestWaitMs: longestWaitMilliseconds,
    cacheHitRatio: cacheHitRatio(stats) ?? null,
    ...memory,
    bytesPerToken: bytesPerToken(stats) ?? null,
  };
}

/** Columns of a table of instances. */
export const STATS_HEAD = ["TOKENS/S", "RUNNING", "QUEUED", "BATCH", "CACHED", "KV"] as const;

/** The cells under {@linkcode STATS_HEAD}; empty until the engine has told. */
export function statsCells(stats: StatsView | undefined): string[] {
  if (!stats) return STATS_HEAD.map(() => "");
  const { generationTokensPerSecond, running, batchSize } = stats;
  return [
    generationTokensPerSecond.toFixed(1),
    String(running),
    queueWords(stats),
    String(batchSize),
    hitWords(stats),
    kvWords(stats),
  ];
}

/** The same for one instance, one figure a line, with what has no column. */
export function statsLines(stats: StatsView | undefined): string[] {
  if (!stats) return [];
  const { generationTokensPerSecond, promptTokensPerSecond, running, batchSize } = stats;
  const { requests, preemptions, weightBytes, prefixCacheBytes } = stats;
  return [
    `tokens/s  ${generationTokensPerSecond.toFixed(1)} generated, ` +
    `${promptTokensPerSecond.toFixed(1)} of prompts`,
    `running   ${running}, ${batchSize} in the last step`,
    `queued    ${queueWords(stats)}`,
    `served    ${requests} requests, ${preemptions} preemptions`,
    `cached    ${hitWords(stats)} of prompts`,
    `weights   ${formatBytes(weightBytes)}`,
    `kv        ${kvWords(stats)}, of it ${formatBytes(prefixCacheBytes)} kept for later requests`,
    ...(stats.bytesPerToken === null
      ? []
      : [`ranks     ${formatBytes(Math.round(stats.bytesPerToken))} between them for each token`]),
  ];
}

/** `3 (1.2 s)`: how many wait, and the first of them how long. */
function queueWords({ queued, longestWaitMs }: StatsView): string {
  return queued === 0 ? "0" : `${queued} (${(longestWaitMs / 1000).toFixed(1)} s)`;
}

function hitWords({ cacheHitRatio }: StatsView): string {
  return cacheHitRatio === null ? "-" : `${Math.round(100 * cacheHitRatio)} %`;
}

function kvWords({ kvBytes, prefixCacheBytes, kvBudgetBytes }: StatsView): string {
  const used = formatBytes(kvBytes + prefixCacheBytes);
  return kvBudgetBytes === 0 ? used : `${used} of ${formatBytes(kvBudgetBytes)}`;
}
