import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import {
  chunkCame,
  NO_STEPS,
  STEP_MS_MAX,
  stepLimit,
  stepsCounted,
  type StepWatch,
  SUSPECT_STEP_MS_MAX,
  workBegan,
} from "../../core/step_watch.ts";

/** Work since 1,000, then steps that take so long each, counted one by one. */
function watchOf(...stepsMs: readonly number[]): StepWatch {
  let watch = workBegan(NO_STEPS, 1_000);
  for (const ms of stepsMs) watch = stepsCounted(watch, watch.steps + 1, watch.since + ms);
  return watch;
}

Deno.test("a step is late after 30 s, or 20 times the median; after 5 s under suspicion", () => {
  const slow = [2_000, 2_000, 2_000];
  const rows: [what: string, watch: StepWatch, suspectAfter: number | undefined, late: number][] = [
    ["no step yet", watchOf(), undefined, 30_000],
    ["quick steps", watchOf(50, 60, 70), undefined, 30_000],
    ["just quick enough", watchOf(1_500), undefined, 30_000],
    ["slow steps", watchOf(...slow), undefined, 40_000],
    ["one was slow", watchOf(50, 50, 9_000, 50), undefined, 30_000],
    ["one was quick", watchOf(4_000, 10, 4_000, 4_000), undefined, 80_000],
    ["suspected since before", watchOf(50), -500, 5_000],
    ["suspected since the step", watchOf(50), 0, 5_000],
    ["a suspicion leaves time for a step", watchOf(50), 8_000, 13_000],
    ["a suspicion never adds time", watchOf(50), 27_000, 30_000],
    ["a suspicion of slow steps waits for one", watchOf(...slow), 0, 6_000],
  ];
  for (const [what, watch, suspectAfter, late] of rows) {
    const suspectSince = suspectAfter === undefined ? undefined : watch.since + suspectAfter;
    assert.equal(stepLimit(watch, suspectSince).at - watch.since, late, what);
  }
});

Deno.test("the limit says how long was waited, from what cut the time short on", () => {
  const watch = watchOf(50);
  assert.equal(stepLimit(watch).patienceMs, STEP_MS_MAX);
  assert.equal(stepLimit(watch, watch.since + 3_000).patienceMs, SUSPECT_STEP_MS_MAX);
  assert.equal(stepLimit(watch, watch.since + 29_000).patienceMs, STEP_MS_MAX);
});

Deno.test("a count without a new step is no step, and the next one shows how long it took", () => {
  const watch = watchOf(50);
  assert.equal(stepsCounted(watch, watch.steps, watch.since + 1_000), watch);
  const later = stepsCounted(watch, watch.steps + 4, watch.since + 1_000);
  assert.deepEqual(later.paces, [50, 250]);
  assert.equal(later.since, watch.since + 1_000);
});

Deno.test("only so many paces are remembered, and none is of the time without work", () => {
  const many = watchOf(...Array.from({ length: 40 }, () => 3_000), ...Array(15).fill(20));
  assert.equal(many.paces.length, 15);
  assert.equal(stepLimit(many).patienceMs, STEP_MS_MAX);
  const rested = workBegan(watchOf(50), 1_000_000);
  assert.equal(stepLimit(rested).at, 1_000_000 + STEP_MS_MAX);
  assert.deepEqual(stepsCounted(rested, rested.steps + 1, 1_000_050).paces, [50, 50]);
});

Deno.test("a chunk is a step's when a step has made it", () => {
  const error = { code: "internal", message: "no" } as const;
  const chunks: [Pick<Chunk, "type"> & object, boolean][] = [
    [{ type: "Token" }, true],
    [{ type: "PrefillProgress" }, true],
    [{ type: "Finish" }, true],
    [{ type: "Accepted" }, false],
    [{ type: "Error", error } as Chunk, false],
  ];
  for (const [chunk, isStep] of chunks) {
    const { since } = chunkCame(watchOf(50), chunk as Chunk, 9_000);
    assert.equal(since === 9_000, isStep, chunk.type);
  }
});
