import { deepEqual } from "node:assert/strict";
import { isLoaded, isServing, RunnerStatus } from "../../core/runner_status.ts";
import { statusOf } from "../support/fixtures.ts";

Deno.test("a runner has its weights in memory from Loaded on, and serves when Ready or Running", () => {
  const types = RunnerStatus.options.map(({ shape }) => shape.type.value);
  const loaded = ["RunnerLoaded", "RunnerWarmingUp", "RunnerReady", "RunnerRunning"];
  deepEqual(types.filter((type) => isLoaded(statusOf(type))), loaded);
  deepEqual(types.filter((type) => isServing(statusOf(type))), loaded.slice(2));
});
