import { deepEqual, equal } from "node:assert/strict";
import type { EngineCounts } from "../../core/engine_stats.ts";
import { STATS_MS, StatsPace } from "../../engines/stats_pace.ts";
import { engineStats } from "../support/engine_stats.ts";

/** An engine that has done so much more with each look at it. */
function busy() {
  let looks = 0;
  const stats = (): EngineCounts => {
    looks++;
    return engineStats({ generatedTokens: 50 * looks, prefillTokens: 200 * looks });
  };
  return { engine: { stats }, looks: () => looks };
}

Deno.test("StatsPace tells of an engine once a second from when work began", () => {
  const { engine, looks } = busy();
  const pace = new StatsPace();
  const told = [0, 1, STATS_MS - 1, STATS_MS, STATS_MS + 1, 2 * STATS_MS].map((at) =>
    pace.atWork(engine, 5000 + at) !== undefined
  );
  deepEqual(told, [false, false, false, true, false, true]);
  equal(looks(), 3, "the engine is not asked in between");
});

Deno.test("StatsPace tells rates over the time since it told last", () => {
  const { engine } = busy();
  const pace = new StatsPace();
  pace.atWork(engine, 0);
  const rates = (at: number) => {
    const stats = pace.atWork(engine, at);
    return [stats?.promptTokensPerSecond, stats?.generationTokensPerSecond];
  };
  deepEqual(rates(STATS_MS), [200, 50]);
  deepEqual(rates(STATS_MS + 4000), [50, 12.5]);
});

Deno.test("StatsPace leaves the time at rest out of its rates", () => {
  const { engine } = busy();
  const pace = new StatsPace();
  pace.atWork(engine, 0);
  pace.rest();
  equal(pace.atWork(engine, 100_000), undefined);
  equal(pace.atWork(engine, 100_000 + STATS_MS)?.generationTokensPerSecond, 50);
});
