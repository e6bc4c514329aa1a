import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import type { Shard } from "../../../core/instance.ts";
import type { BoundModel } from "../../../engines/engine.ts";
import { heldBack, partIn, splitOf } from "../../../engines/group/ranks.ts";
import { TextBuilder } from "../../../engines/text_builder.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { answersOfRanks } from "../../support/group_ranks.ts";
import { answerAlone, textOf } from "../../support/text_engine.ts";
import { TextEngine } from "../../../engines/text_engine.ts";
import { bind, goldenPath, SMOLLM2, task } from "../golden.ts";

await ensureSetup();

type Sharding = "pipeline" | "tensor";

/** A model's ranks, as even as they can be. */
function ranksOf(modelPath: string, size: number, sharding: Sharding): BoundModel[] {
  const whole = bind(modelPath);
  const { nLayers, modelCard } = whole.shard;
  const border = (rank: number) => Math.round(rank * nLayers / size);
  return Array.from({ length: size }, (_, deviceRank): BoundModel => {
    const common = { modelCard, nLayers, deviceRank, worldSize: size };
    const shard: Shard = sharding === "tensor"
      ? { type: "TensorShardMetadata", ...common, startLayer: 0, endLayer: nLayers }
      : {
        ...{ type: "PipelineShardMetadata", ...common },
        ...{ startLayer: border(deviceRank), endLayer: border(deviceRank + 1) },
      };
    return { ...whole, shard };
  });
}

const PROMPTS = [
  "What is the capital of France?",
  "hello ".repeat(60),
  "Name three colours.",
];

/** Many at once over the ranks, and each alone in one engine. */
async function compare(modelPath: string, size: number, sharding: Sharding): Promise<void> {
  const requests = PROMPTS.map((prompt, i) => {
    return task(`t${i}`, prompt, { maxTokens: 24, ignoreEos: true });
  });
  const { answers, ends } = await answersOfRanks(ranksOf(modelPath, size, sharding), requests);
  const builder = new TextBuilder();
  for (const _ of builder.load(bind(modelPath)));
  const engine = builder.build();
  ok(engine instanceof TextEngine);
  const alone = requests.map((
    { taskId, payload },
  ) => [taskId, textOf(answerAlone(engine, payload))]);
  engine.close();
  deepEqual(answers.texts, Object.fromEntries(alone));
  equal(answers.kvBytes, 0);
  equal(ends.length, size - 1);
  for (const end of ends) {
    equal(end?.error.code, "group_broken");
    match(end?.error.message ?? "", /Rank \d on "node-\d"/);
  }
}

const CASES: readonly [Sharding, readonly number[]][] = [["pipeline", [2, 3, 4]], ["tensor", [3]]];
for (const [sharding, sizes] of CASES) {
  for (const size of sizes) {
    Deno.test({
      name: `SmolLM2 answers over ${size} ${sharding} ranks what it answers on one`,
      ignore: SMOLLM2 === undefined,
      fn: () => compare(SMOLLM2 ?? "", size, sharding),
    });
  }
}

for (const sharding of ["pipeline", "tensor"] as const) {
  Deno.test(`A small model answers over 2 ${sharding} ranks what it answers on one`, () =>
    compare(goldenPath("models/tiny-tied"), 2, sharding));
}

Deno.test("partIn() asks for the group of a shard that is one of several", () => {
  const [first] = ranksOf(goldenPath("models/tiny-tied"), 2, "pipeline");
  ok(first);
  throws(() => partIn(first.shard, undefined), { code: "load_failed", message: /rank 0 of 2/ });
  equal(splitOf(first.shard), "pipeline");
});

Deno.test("heldBack() leaves the end of the progress to who waits for the others", () => {
  const loading = heldBack((function* () {
    for (const layersLoaded of [1, 2, 3]) yield { layersLoaded, totalLayers: 3 };
    return "weights";
  })());
  deepEqual([loading.next().value, loading.next().value], [
    { layersLoaded: 1, totalLayers: 3 },
    { layersLoaded: 2, totalLayers: 3 },
  ]);
  deepEqual(loading.next(), { done: true, value: "weights" });
});
