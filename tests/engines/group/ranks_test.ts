import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { heldBack, partIn, splitOf } from "../../../engines/group/ranks.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { randomLlama } from "../../support/eight_heads_llama.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { answersOfRanks, compareRanks, ranksOf, type Sharding } from "../../support/group_ranks.ts";
import { bind, goldenPath, SMOLLM2, task } from "../golden.ts";

await ensureSetup();

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
  await compareRanks({ model: bind(modelPath), size, sharding, requests });
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

Deno.test("Ranks that have other files of a model under one id do not answer: they say where", async () => {
  await using dir = await TempDir.make();
  const [own, other] = [`${dir.path}/own`, `${dir.path}/other`];
  for (const folder of [own, other]) await randomLlama(folder);
  // Another number of the last weights: no header, and so no id, says that.
  const path = `${other}/model.safetensors`;
  const bytes = await Deno.readFile(path);
  bytes.set([0x3f, 0x80], bytes.length - 4);
  await Deno.writeFile(path, bytes);
  const models = ranksOf(bind(own), 2, "pipeline").map((model, rank) => {
    return rank === 1 ? { ...model, modelPath: other } : model;
  });
  await rejects(answersOfRanks(models, [task("t", "hello")]), {
    message: /its files on "node-1" are others than those on "node-0"/,
  });
});

Deno.test("partIn() asks for the group of a shard that is one of several", () => {
  const [first] = ranksOf(bind(goldenPath("models/tiny-tied")), 2, "pipeline");
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
