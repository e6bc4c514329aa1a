import { deepEqual } from "node:assert/strict";
import { loadParts } from "../../bench/exo_server.ts";

const seen = (entries: Record<string, number>) => new Map(Object.entries(entries));

Deno.test("loadParts() takes the times between the statuses of a runner", () => {
  const all = { RunnerIdle: 90, RunnerLoading: 100, RunnerLoaded: 400, RunnerReady: 900 };
  deepEqual(loadParts(seen(all)), { startRunner: 100, loadModel: 300, warmUp: 500 });
  const merged = { RunnerLoading: 100, RunnerWarmingUp: 400, RunnerReady: 900 };
  deepEqual(loadParts(seen(merged)), { startRunner: 100, loadModel: 300, warmUp: 500 });
});

Deno.test("loadParts() tells no part when a status was not seen", () => {
  deepEqual(loadParts(seen({ RunnerIdle: 90, RunnerReady: 900 })), {});
  deepEqual(loadParts(seen({ RunnerLoading: 90, RunnerReady: 900 })), {});
});
