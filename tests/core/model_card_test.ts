import assert from "node:assert/strict";
import { ModelId } from "../../core/ids.ts";
import { matchModel, ModelCard, shortName } from "../../core/model_card.ts";

const ids = (...names: string[]) => names.map((name) => ModelId.parse(name));
const KNOWN = ids("org/Llama-3.2-1B", "org/Llama-3.2-3B", "other/Qwen3-4B", "local/smol-0123abcd");
const match = (wanted: string, known = KNOWN) => matchModel(wanted, known);

Deno.test("shortName() is what follows the last slash", () => {
  const [full, bare] = ids("org/SmolLM2-135M", "bare");
  assert.equal(full && shortName(full), "SmolLM2-135M");
  assert.equal(bare && shortName(bare), "bare");
});

Deno.test("a model is found by its id, its short name, or a prefix of either", () => {
  for (const wanted of ["other/Qwen3-4B", "Qwen3-4B", "other/Q", "Qwen"]) {
    assert.equal(match(wanted).modelId, "other/Qwen3-4B", wanted);
  }
});

Deno.test("a prefix of several models names none, and yields all of them", () => {
  const { modelId, candidates } = match("Llama");
  assert.equal(modelId, undefined);
  assert.deepEqual(candidates, ["org/Llama-3.2-1B", "org/Llama-3.2-3B"]);
});

Deno.test("a short name that two models share names neither", () => {
  const twins = ids("a/same", "b/same", "c/same-longer");
  const { modelId, candidates } = match("same", twins);
  assert.equal(modelId, undefined);
  assert.deepEqual(candidates, ["a/same", "b/same"]);
  assert.equal(match("b/same", twins).modelId, "b/same");
});

Deno.test("an exact name wins over the longer ones that begin with it", () => {
  const known = ids("org/tiny", "org/tiny-chat");
  assert.equal(match("tiny", known).modelId, "org/tiny");
  assert.equal(match("org/tiny", known).modelId, "org/tiny");
});

Deno.test("what no model begins with, and nothing at all, match none", () => {
  assert.deepEqual(match("gpt"), { candidates: [] });
  assert.deepEqual(match(""), { candidates: [] });
  assert.deepEqual(match("x", []), { candidates: [] });
});

Deno.test("a card says what it must, and its other fields have defaults", () => {
  const least = {
    modelId: "m",
    storageSize: { inBytes: 1 },
    nLayers: 1,
    hiddenSize: 1,
    supportsTensor: false,
    tasks: ["TextGeneration"],
    backends: ["MlxCpu"],
  };
  const card = ModelCard.parse(least);
  assert.equal(card.contextLength, 0);
  assert.equal(card.isCustom, false);
  assert.throws(() => ModelCard.parse({ ...least, backends: [] }));
  assert.throws(() => ModelCard.parse({ ...least, nLayers: 0 }));
});
