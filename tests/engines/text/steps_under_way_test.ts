import { deepEqual, equal, throws } from "node:assert/strict";
import { resolveSampling } from "../../../core/sampling.ts";
import { TaskId } from "../../../core/ids.ts";
import { Generation } from "../../../engines/text/generation.ts";
import { Run } from "../../../engines/text/run.ts";
import { StepsUnderWay } from "../../../engines/text/steps_under_way.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { ArithmeticGroup } from "../../support/arithmetic_group.ts";
import { task } from "../golden.ts";

await ensureSetup();

/** Tokens as words; nothing of them matters here. */
const TOKENIZER = {
  trimsLeadingSpace: false,
  bytesOf: (id: number) => new TextEncoder().encode(`${id} `),
};

function runOf(id: string, promptTokens: number): Run {
  const promptIds = Array.from({ length: promptTokens }, (_, i) => i);
  const generation = new Generation({
    ...{ promptIds, sampling: resolveSampling({ temperature: 0 }), seed: 0n },
    ...{ maxTokens: 9, stop: [], eosIds: new Set() },
  }, { tokenizer: TOKENIZER, submittedAt: 0 });
  return new Run(task(id, ""), {
    ...{ arrival: 0, prefixKey: undefined, generation, submittedAt: 0 },
  });
}

/** Two ranks, and a clock that the test sets. */
function world() {
  const group = new ArithmeticGroup(2);
  const clock = { ms: 0 };
  const steps = new StepsUnderWay({ decoder: group.decoder, now: () => clock.ms });
  const begin = (id: string, promptTokens: number) => {
    const run = runOf(id, promptTokens);
    run.generation.start(group.decoder.makeCache(), 0);
    return run;
  };
  return { group, clock, steps, begin };
}

Deno.test("StepsUnderWay counts the time of each step once, though they overlap", () => {
  const { group, clock, steps, begin } = world();
  using _group = group;
  const run = begin("a", 10);
  steps.launch([{ run, tokens: 4 }]);
  clock.ms = 10;
  steps.launch([{ run, tokens: 6 }]);
  equal(steps.hasRoom, false);
  deepEqual([steps.size, run.lastStep, run.pendingTokens], [2, 2, 0]);
  clock.ms = 100;
  const first = steps.collect();
  clock.ms = 130;
  const second = steps.collect();
  const times = [first, second].map(({ outcome }) => {
    if ("cause" in outcome) throw outcome.cause;
    return [outcome.startedAt, outcome.endedAt, ...outcome.results.flat()];
  });
  deepEqual(times[0], [0, 100, {
    type: "PrefillProgress",
    processedTokens: 4,
    totalTokens: 10,
  }]);
  // A chunk behind it says what it read itself, and draws the first token.
  const [from, to, progress] = times[1] ?? [];
  deepEqual([from, to], [100, 130]);
  deepEqual(progress, { type: "PrefillProgress", processedTokens: 10, totalTokens: 10 });
  equal(run.pendingTokens, 1);
  equal(steps.wait(0), false);
  throws(() => steps.collect(), /that was launched/);
});

Deno.test("StepsUnderWay tells nothing of who was suspended since, though it has begun anew", () => {
  const { group, steps, begin } = world();
  using _group = group;
  const [gone, anew, stays] = [begin("gone", 3), begin("anew", 3), begin("stays", 3)];
  steps.launch([gone, anew, stays].map((run) => ({ run, tokens: 3 })));
  gone.generation.suspend();
  anew.generation.suspend();
  anew.generation.start(group.decoder.makeCache(), 0);
  const { parts, size, outcome } = steps.collect();
  equal(size, 3);
  deepEqual(parts.map(({ run }) => run.taskId), [TaskId.parse("stays")]);
  equal("results" in outcome && outcome.results.length, 1);
  deepEqual([gone, anew, stays].map(({ generation }) => generation.ids.length), [3, 3, 4]);
});

Deno.test("StepsUnderWay says why a step could not be computed, and of whom", () => {
  const { group, steps, begin } = world();
  using _group = group;
  const run = begin("a", 3);
  const failing = [true, true];
  group.parts.forEach((part, rank) => {
    part.fault = (inputs) => failing[rank] && inputs[0]?.ids.length === 3 ? "no luck" : undefined;
  });
  throws(() => steps.launch([{ run, tokens: 3 }]), /no luck/);
  equal(steps.size, 0);
  failing[0] = false;
  steps.launch([{ run, tokens: 3 }]);
  equal(steps.size, 1);
  steps.launch([{ run: begin("b", 2), tokens: 2 }]);
  const { parts, outcome } = steps.collect();
  deepEqual(parts.map(({ run, wasPrefilling }) => [run.taskId, wasPrefilling]), [["a", true]]);
  equal("cause" in outcome, true);
  equal("results" in steps.collect().outcome, true);
});
