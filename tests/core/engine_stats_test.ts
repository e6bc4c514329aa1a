import { deepEqual, equal } from "node:assert/strict";
import {
  bytesPerToken,
  cacheHitRatio,
  instanceStats,
  statsAtRest,
  statsAtWork,
} from "../../core/engine_stats.ts";
import { A, B, instanceOf, runnerId } from "../support/fixtures.ts";
import { engineStats } from "../support/engine_stats.ts";

Deno.test("statsAtWork() counts as prompt tokens a second those that were computed", () => {
  const before = engineStats({ promptTokens: 100, prefillTokens: 60, generatedTokens: 10 });
  const now = engineStats({ promptTokens: 700, prefillTokens: 260, generatedTokens: 60 });
  const stats = statsAtWork(before, now, 500);
  equal(stats.promptTokensPerSecond, 400);
  equal(stats.generationTokensPerSecond, 100);
  equal(stats.promptTokens, 700);
});

Deno.test("statsAtWork() has no rate of no time, and none below zero", () => {
  const before = engineStats({ prefillTokens: 9, generatedTokens: 9 });
  const { promptTokensPerSecond, generationTokensPerSecond } = statsAtWork(
    before,
    engineStats(),
    1000,
  );
  deepEqual([promptTokensPerSecond, generationTokensPerSecond], [0, 0]);
  equal(statsAtWork(engineStats(), before, 0).generationTokensPerSecond, 0);
});

Deno.test("statsAtRest() keeps the totals and says that nothing is done", () => {
  const counters = engineStats({ batchSize: 4, generatedTokens: 9, generationTokensPerSecond: 8 });
  deepEqual(statsAtRest(counters), engineStats({ generatedTokens: 9 }));
});

Deno.test("instanceStats() has the counts of rank 0 and the memory of all ranks", () => {
  const instance = instanceOf("i", [A, B]);
  const memory = { weightBytes: 1, kvBytes: 10, prefixCacheBytes: 100, kvBudgetBytes: 1000 };
  const [first, second] = [
    engineStats({ running: 2, memory }),
    engineStats({ running: 9, memory: { ...memory, kvBytes: 20 } }),
  ];
  const both = new Map([[runnerId("i:1"), second], [runnerId("i:0"), first]]);
  deepEqual(
    instanceStats(instance, both),
    engineStats({
      running: 2,
      memory: { weightBytes: 2, kvBytes: 30, prefixCacheBytes: 200, kvBudgetBytes: 2000 },
    }),
  );
  // A rank that has not told yet is counted as nothing; the first has the counts, and must have.
  deepEqual(instanceStats(instance, new Map([[runnerId("i:0"), first]])), first);
  equal(instanceStats(instance, new Map([[runnerId("i:1"), second]])), undefined);
});

Deno.test("instanceStats() has what all ranks sent to each other, for each token of rank 0", () => {
  const instance = instanceOf("i", [A, B]);
  const first = engineStats({
    generatedTokens: 10,
    group: { bytesSent: 100, framesSent: 10, waitedMs: 0.5 },
  });
  const second = engineStats({ group: { bytesSent: 20, framesSent: 1, waitedMs: 2 } });
  equal(bytesPerToken(engineStats({ generatedTokens: 9 })), undefined);
  equal(bytesPerToken({ ...first, generatedTokens: 0 }), undefined);
  const both = new Map([[runnerId("i:0"), first], [runnerId("i:1"), second]]);
  const stats = instanceStats(instance, both);
  deepEqual(stats?.group, { bytesSent: 120, framesSent: 11, waitedMs: 2.5 });
  equal(stats && bytesPerToken(stats), 12);
});

Deno.test("cacheHitRatio() is not known before the first prompt", () => {
  equal(cacheHitRatio({ promptTokens: 0, cachedTokens: 0 }), undefined);
  equal(cacheHitRatio({ promptTokens: 8, cachedTokens: 2 }), 0.25);
});
