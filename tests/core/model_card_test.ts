import assert from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../../core/errors.ts";
import { ModelId } from "../../core/ids.ts";
import {
  isImageModel,
  matchModel,
  ModelCard,
  normalizedId,
  parseModelCard,
  shortName,
} from "../../core/model_card.ts";

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

const FILE = { file: "org--m.toml", isCustom: false, exoVersion: "0.3.1" };

const TABLE = {
  model_id: "org/m",
  n_layers: 2,
  hidden_size: 8,
  supports_tensor: true,
  tasks: ["TextGeneration"],
  backends: ["MlxCpu"],
  storage_size: { in_bytes: 100 },
};

const read = (more: object, source: object = {}) =>
  parseModelCard({ ...TABLE, ...more }, { ...FILE, ...source });

const refusal = (json: unknown): AppError => {
  try {
    parseModelCard(json, FILE);
  } catch (error) {
    if (error instanceof AppError) return error;
  }
  throw new Error("it was read");
};

Deno.test("a card's file has its names in snake_case, at every depth", () => {
  const { card, warnings } = read({
    num_key_value_heads: 4,
    kv_bytes_per_token: 64,
    files_size: { in_bytes: 120 },
    eos_token_ids: [1, 2],
    uses_cfg: true,
    sampling_defaults: { top_p: 0.9, non_thinking: { top_k: 3 }, thinking: { min_p: 0.1 } },
    components: [{
      component_name: "vae",
      component_path: "vae/",
      storage_size: { in_bytes: 0 },
      can_shard: false,
      safetensors_index_filename: "index.json",
    }],
  }, { isCustom: true });
  assert.deepEqual(warnings, []);
  assert.equal(card.numKeyValueHeads, 4);
  assert.equal(card.kvBytesPerToken, 64);
  assert.deepEqual(card.filesSize, { inBytes: 120 });
  assert.deepEqual(card.eosTokenIds, [1, 2]);
  const sampling = { topP: 0.9, nonThinking: { topK: 3 }, thinking: { minP: 0.1 } };
  assert.deepEqual(card.samplingDefaults, sampling);
  assert.equal(card.components?.[0]?.safetensorsIndexFilename, "index.json");
  assert.equal(card.isCustom, true);
  assert.deepEqual(ModelCard.parse(JSON.parse(JSON.stringify(card))), card);
});

Deno.test("that a model's code may run is read and forgotten", () => {
  for (const trust_remote_code of [true, false]) {
    const { card, warnings } = read({ trust_remote_code });
    assert.deepEqual(warnings, []);
    assert.deepEqual(card, read({}).card);
  }
});

Deno.test("fields that this version does not know are told, and left out", () => {
  const { card, warnings } = read({
    colour: "red",
    nLayers: 3,
    isCustom: true,
    is_custom: true,
    constructor: 1,
    storage_size: { in_bytes: 1, in_bits: 8 },
    sampling_defaults: { non_thinking: { heat: 1 } },
    components: [{
      component_name: "a",
      component_path: "a/",
      storage_size: { in_bytes: 0 },
      can_shard: false,
      weight: 1,
    }],
  });
  const names = warnings.map((warning) => /"(.*)"/.exec(warning)?.[1]);
  const lost = [
    "colour",
    "nLayers",
    "isCustom",
    "is_custom",
    "constructor",
    "storage_size.in_bits",
  ];
  assert.deepEqual(
    names.toSorted(),
    [
      ...lost,
      "sampling_defaults.non_thinking.heat",
      "components.0.weight",
    ].toSorted(),
  );
  assert.equal(card.nLayers, 2);
  assert.equal(card.isCustom, false);
  assert.ok(!("colour" in card));
});

Deno.test("the settings of evaluations are kept as they are, whatever they are called", () => {
  const settings = { top_k: 1, "GPQA Diamond": { maxTokens: 2 } };
  const { card, warnings } = read({ eval: settings });
  assert.deepEqual(warnings, []);
  assert.deepEqual(card.eval, settings);
});

Deno.test("vision weights without a repository are the model's own", () => {
  const vision = { image_token_id: 7, model_type: "eye" };
  const own = { imageTokenId: 7, modelType: "eye", weightsRepo: "org/m" };
  assert.deepEqual(read({ vision }).card.vision, own);
  assert.deepEqual(read({ vision: { ...vision, weights_repo: "" } }).card.vision, own);
  const elsewhere = read({ vision: { ...vision, weights_repo: "a/b" } }).card.vision;
  assert.equal(elsewhere?.weightsRepo, "a/b");
  assert.equal(read({}).card.vision, undefined);
});

Deno.test("a card that is wrong is refused, with the field as its file calls it", () => {
  const { code, message, hint } = refusal({ ...TABLE, n_layers: 0 });
  assert.equal(code, "corrupt_model");
  assert.match(message, /"org--m.toml": found 0 as "n_layers", at least 1 needed/);
  assert.ok(hint);
  assert.match(refusal({ ...TABLE, storage_size: {} }).message, /as "storage_size.in_bytes"/);
  assert.match(refusal("text").message, /found "text", an object needed/);
  assert.match(refusal(null).message, /found null, an object needed/);
  const { model_id: _, ...nameless } = TABLE;
  assert.match(refusal(nameless).message, /found nothing as "model_id"/);
  assert.equal(refusal({ ...TABLE, commit: "main" }).code, "corrupt_model");
  assert.equal(refusal({ ...TABLE, min_exo_version: "newest" }).code, "corrupt_model");
});

Deno.test("whatever a file holds, it is read or refused, and nothing else happens", () => {
  const field = fc.constantFrom(...Object.keys(TABLE), "vision", "components", "eval", "__proto__");
  fc.assert(fc.property(field, fc.jsonValue(), (name, value) => {
    for (const json of [value, { ...TABLE, [name]: value }]) {
      try {
        assert.equal(parseModelCard(json, FILE).card.isCustom, false);
      } catch (error) {
        assert.ok(error instanceof AppError && error.hint, String(error));
      }
    }
  }));
});

Deno.test("a card for a newer exo is refused by an older one", () => {
  for (const min_exo_version of ["0.3.1", "0.3.0", "0.2.9"]) {
    assert.equal(read({ min_exo_version }).card.minExoVersion, min_exo_version);
  }
  for (const min_exo_version of ["0.3.2", "0.10.0", "1.0.0"]) {
    const error = refusal({ ...TABLE, min_exo_version });
    assert.equal(error.code, "unsupported_model");
    assert.match(error.message, new RegExp(`exo 0.3.1 found, ${min_exo_version} needed`));
  }
  assert.ok(read({ min_exo_version: "0.3.1" }, { exoVersion: "0.3.1-rc.1" }).card);
});

Deno.test("a model that makes pictures is told from its tasks", () => {
  assert.equal(isImageModel({ tasks: ["TextGeneration"] }), false);
  assert.equal(isImageModel({ tasks: ["TextToImage"] }), true);
  assert.equal(isImageModel({ tasks: ["TextGeneration", "ImageToImage"] }), true);
});

Deno.test("normalizedId() has no slash", () => {
  assert.equal(normalizedId("a/b/c"), "a--b--c");
  assert.equal(normalizedId("bare"), "bare");
});

Deno.test("names are found in any case", () => {
  const known = ids("org/Tiny", "org/TINY-chat", "org/tine");
  assert.equal(match("tiny", known).modelId, "org/Tiny");
  assert.equal(match("ORG/TINE", known).modelId, "org/tine");
  assert.equal(match("tiny-c", known).modelId, "org/TINY-chat");
  // Else a name's odd spelling would make it the one that is meant.
  assert.deepEqual(match("TIN", known).candidates, known);
});

Deno.test("what is at hand comes first, unless the name is exactly another's", () => {
  const hand = ids("local/qwen3-4b-0123abcd", "mlx/Qwen3-4B-4bit");
  const all = ids(...hand, "Qwen/Qwen3-4B", "Qwen/Qwen3-8B");
  const find = (wanted: string) => matchModel(wanted, hand, all);
  assert.equal(find("qwen3-4b-0").modelId, hand[0]);
  assert.deepEqual(find("qwen3-4b").candidates, hand);
  assert.equal(find("qwen3-4b-4").modelId, "mlx/Qwen3-4B-4bit");
  assert.equal(find("Qwen3-4B").modelId, "Qwen/Qwen3-4B");
  assert.equal(find("qwen3-8b").modelId, "Qwen/Qwen3-8B");
  assert.deepEqual(find("QWEN3").candidates, hand);
});
