/** Real models over the ranks of a pipeline: what is asked is answered as by one rank, bit by bit. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { TaskId } from "../../../core/ids.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { MixedRequests } from "../../support/mixed_requests.ts";
import { engineOver, ModelStages, WholeModel } from "../../support/model_stages.ts";
import { Random } from "../../support/random.ts";
import { answerAlone, Outcomes } from "../../support/text_engine.ts";
import { goldenPath } from "../golden.ts";

await ensureSetup();

/** Windows end within prompts and answers; half of the requests begin alike. */
const SHAPE = { systemWords: 30, wordsMax: 30, answerTokensMax: 60, longAnswerShare: 0.7 };
const REQUESTS = 8;

/** Blocks of keys and values: less than all of them want at a time. */
const BLOCKS = 24;

const MODELS = ["tiny-tied", "tiny-window", "tiny-mixed-window", "tiny-quantized"];

for (const name of MODELS) {
  Deno.test(`${name} says over two ranks what it says on one, many at once`, () => {
    const path = goldenPath(`models/${name}`);
    using stages = new ModelStages(path, [1, 1]);
    using whole = new WholeModel(path);
    const { decoder } = stages;
    const kvBudgetBytes = BLOCKS * decoder.makeCache().bytesFor(decoder.blockPositions);
    const engine = engineOver(path, decoder, { kvBudgetBytes });
    const requests = new MixedRequests(new Random(7), SHAPE);
    const asked = Array.from({ length: REQUESTS }, (_, i) => {
      return { taskId: TaskId.parse(`request-${i}`), payload: requests.next() };
    });
    const outcomes = new Outcomes();
    const step = () => {
      for (const part of engine.step()) outcomes.take(...part);
    };
    // One after each step: so some prompts are read while others decode, and find prefixes.
    for (const one of asked) {
      engine.submit(one);
      outcomes.begin(one.taskId);
      step();
    }
    while (engine.hasWork()) step();
    ok(engine.stats().cachedTokens > 0, "prefixes are reused");
    engine.close();
    equal(stages.held, 0);
    const alone = engineOver(path, whole.decoder, { runningMax: 1 });
    for (const { taskId, payload } of asked) {
      const found = outcomes.of(taskId);
      ok(found?.finish, taskId);
      deepEqual(found.tokens, answerAlone(alone, payload).tokens, taskId);
    }
    alone.close();
  });
}
