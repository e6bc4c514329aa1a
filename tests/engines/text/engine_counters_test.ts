import { deepEqual, equal } from "node:assert/strict";
import { EngineCounts } from "../../../core/engine_stats.ts";
import { EngineCounters } from "../../../engines/text/engine_counters.ts";

const NOW = {
  at: 100,
  running: 1,
  waitingSince: [],
  memory: { weightBytes: 1, kvBytes: 2, prefixCacheBytes: 3, kvBudgetBytes: 4 },
};

Deno.test("EngineCounters add up what was done", () => {
  const counters = new EngineCounters();
  counters.submitted();
  counters.submitted();
  counters.begun(10, 4);
  counters.begun(5, 0);
  counters.stepped(1, 6);
  counters.stepped(2, 5);
  counters.generated(1);
  counters.generated(2);
  counters.preempted();
  deepEqual(counters.counts(NOW), {
    ...{ running: 1, queued: 0, longestWaitMilliseconds: 0, batchSize: 2 },
    ...{ requests: 2, preemptions: 1, promptTokens: 15, cachedTokens: 4 },
    ...{ prefillTokens: 11, generatedTokens: 3, steps: 2, memory: NOW.memory },
  });
  EngineCounts.parse(counters.counts(NOW));
});

Deno.test("EngineCounters tell the longest wait, and no batch when nobody runs", () => {
  const counters = new EngineCounters();
  counters.stepped(7, 0);
  const counts = counters.counts({ ...NOW, running: 0, waitingSince: [80, 40, 99] });
  deepEqual([counts.queued, counts.longestWaitMilliseconds, counts.batchSize], [3, 60, 0]);
  equal(counts.steps, 1);
});
