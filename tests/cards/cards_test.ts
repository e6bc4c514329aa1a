import { deepEqual, equal, match, ok } from "node:assert/strict";
import { parse } from "smol-toml";
import { z } from "zod";
import { weightBytes } from "../../cards/source/weights.ts";
import {
  isImageModel,
  type ModelCard,
  normalizedId,
  parseModelCard,
} from "../../core/model_card.ts";
import { GIB } from "../../core/units.ts";

const CARDS = new URL("../../cards/", import.meta.url);
const RECORDED = new URL("../golden/cards/configs.json", import.meta.url);

/** Small models that we have added to the 141 of the specification. */
const ADDED = [
  "HuggingFaceTB/SmolLM2-1.7B-Instruct",
  "HuggingFaceTB/SmolLM2-135M-Instruct",
  "HuggingFaceTB/SmolLM2-360M-Instruct",
  "Qwen/Qwen3-0.6B",
  "Qwen/Qwen3-1.7B",
  "Qwen/Qwen3-4B",
  "meta-llama/Llama-3.2-1B-Instruct",
];

const Config = z.strictObject({
  model_type: z.string(),
  num_hidden_layers: z.int(),
  hidden_size: z.int(),
  num_attention_heads: z.int().optional(),
  num_key_value_heads: z.int(),
  head_dim: z.int().optional(),
  kv_lora_rank: z.int().optional(),
  qk_rope_head_dim: z.int().default(0),
  index_head_dim: z.int().default(0),
  full_attention_interval: z.int().default(1),
  attention_layers: z.int().optional(),
  parameters: z.int().optional(),
});
type Config = z.output<typeof Config>;

const configs = new Map(Object.entries(
  z.object({ configs: z.record(z.string(), Config) })
    .parse(JSON.parse(Deno.readTextFileSync(RECORDED))).configs,
));

const files = [...Deno.readDirSync(CARDS)].filter(({ isFile }) => isFile).map(({ name }) => name);
const read = files.map((file) => {
  const source = { file, isCustom: false, exoVersion: "0.1.0" };
  return { file, ...parseModelCard(parse(Deno.readTextFileSync(new URL(file, CARDS))), source) };
});
const cards = read.map(({ card }) => card).toSorted((a, b) => a.modelId < b.modelId ? -1 : 1);
const text = cards.filter((card) => !isImageModel(card));
const image = cards.filter(isImageModel);

/** How many of the cards that are in the specification too have each value. */
function census(of: readonly ModelCard[], value: (card: ModelCard) => string) {
  const counts: Record<string, number> = {};
  for (const card of of.filter(({ modelId }) => !ADDED.includes(modelId))) {
    counts[value(card)] = (counts[value(card)] ?? 0) + 1;
  }
  return counts;
}

const named = (part: string) => cards.filter(({ modelId }) => modelId.includes(part));
const thinks = ({ capabilities }: ModelCard) => capabilities.includes("thinking");

Deno.test("every card is read without a complaint, from a file that its model gives its name", () => {
  for (const { file, card, warnings } of read) {
    deepEqual(warnings, [], file);
    equal(file, `${normalizedId(card.modelId)}.toml`);
  }
});

Deno.test("the cards are those of the specification and the small ones", () => {
  equal(cards.length, 141 + ADDED.length);
  deepEqual(cards.filter(({ modelId }) => ADDED.includes(modelId)).map(({ modelId }) => modelId), [
    ...ADDED,
  ]);
  deepEqual(census(text, ({ family }) => family), {
    qwen: 39,
    llama: 16,
    gemma: 16,
    glm: 15,
    minimax: 11,
    nemotron: 9,
    deepseek: 6,
    kimi: 6,
    step: 3,
    "gpt-oss": 2,
  });
  deepEqual(census(image, ({ family }) => family), { flux: 12, "qwen-image": 6 });
  deepEqual(census(text, ({ quantization }) => quantization), {
    "4bit": 38,
    "8bit": 38,
    bf16: 16,
    "6bit": 14,
    "5bit": 5,
    "MXFP4-Q8": 4,
    "": 4,
    "3bit": 2,
    fp16: 1,
    "4bit-mxfp4": 1,
  });
  deepEqual(census(cards, ({ modelId }) => modelId.split("/")[0] ?? ""), {
    "mlx-community": 121,
    moonshotai: 2,
    exolabs: 18,
  });
});

Deno.test("text cards run on all of MLX's backends, image cards on Metal alone", () => {
  for (const { modelId, backends } of text) {
    deepEqual(backends, ["MlxMetal", "MlxCuda", "MlxCpu"], modelId);
  }
  for (const { modelId, backends } of image) deepEqual(backends, ["MlxMetal"], modelId);
});

Deno.test("layers, widths, heads and architecture are those of the recorded configs", () => {
  for (const card of text) {
    const config = configs.get(card.baseModel);
    ok(config, `no config of ${card.baseModel}`);
    deepEqual(
      [card.architecture, card.nLayers, card.hiddenSize, card.numKeyValueHeads],
      [
        config.model_type,
        config.num_hidden_layers,
        config.hidden_size,
        config.num_key_value_heads,
      ],
      card.modelId,
    );
  }
  const used = new Set(text.map(({ baseModel }) => baseModel));
  deepEqual([...configs.keys()].filter((name) => !used.has(name)), []);
});

/** What a token's keys and values take as f32, by the config; undefined for mixed layers. */
function kvBytes(config: Config): number | undefined {
  const { num_hidden_layers: layers, full_attention_interval, attention_layers } = config;
  const kept = attention_layers ?? layers / full_attention_interval;
  const { kv_lora_rank, qk_rope_head_dim, index_head_dim, head_dim } = config;
  if (kv_lora_rank) return kept * (kv_lora_rank + qk_rope_head_dim + index_head_dim) * 4;
  return head_dim && kept * 2 * config.num_key_value_heads * head_dim * 4;
}

Deno.test("the KV of a token follows from the recorded configs", () => {
  const without = new Set<string>();
  for (const { modelId, baseModel, kvBytesPerToken } of text) {
    const config = configs.get(baseModel);
    equal(kvBytesPerToken, config && kvBytes(config), modelId);
    if (kvBytesPerToken === undefined) without.add(baseModel);
  }
  deepEqual([...without], [
    "DeepSeek V4 Flash",
    "DeepSeek V4 Pro",
    "Gemma 4 26B A4B",
    "Gemma 4 31B",
    "Gemma 4 E2B",
    "Gemma 4 E4B",
  ]);
});

Deno.test("sizes that are computed agree with the counts of parameters that hubs give", () => {
  const BITS = { "": 16, bf16: 16, fp16: 16, "8bit": 8.5, "6bit": 6.5, "4bit": 4.5 };
  let checked = 0;
  for (const { modelId, baseModel, quantization, storageSize } of text) {
    const { parameters } = configs.get(baseModel) ?? {};
    if (parameters === undefined) continue;
    const bytes = parameters * (Object.entries(BITS).find(([q]) => q === quantization)?.[1] ?? 0) /
      8;
    // Vectors stay in 16 bits.
    ok(storageSize.inBytes >= Math.round(bytes), modelId);
    ok(storageSize.inBytes < bytes * 1.001, modelId);
    checked++;
  }
  equal(checked, 25);
});

Deno.test("of two cards of one model, that of more bits is larger", () => {
  const bits = ({ quantization }: ModelCard) => Number(/\d+/.exec(quantization)?.[0] ?? 0);
  const plain = text.filter(({ quantization }) => /^(\dbit|bf16|fp16)$/.test(quantization));
  for (const one of plain) {
    for (const other of plain) {
      if (one.baseModel !== other.baseModel || bits(one) >= bits(other)) continue;
      ok(one.storageSize.inBytes < other.storageSize.inBytes, `${one.modelId} ${other.modelId}`);
    }
  }
});

Deno.test("weightBytes() counts a scale and a bias for 64 numbers, and vectors in 16 bits", () => {
  equal(weightBytes({ matrices: 64, vectors: 3 }, "4bit"), 32 + 4 + 6);
  equal(weightBytes({ matrices: 64, vectors: 3 }, "bf16"), 134);
});

Deno.test("errors of the cards that ours come from are corrected", () => {
  deepEqual(new Set(named("MiniMax-M2").map(({ nLayers }) => nLayers)), new Set([62]));
  const glm = named("GLM-4.7-").filter(({ modelId }) => !modelId.includes("Flash"));
  deepEqual(glm.map(({ nLayers }) => nLayers), [92, 92, 92]);
  for (const card of [...named("Instruct-2507"), ...named("Qwen3-VL-4B-Instruct")]) {
    equal(thinks(card), false, card.modelId);
  }
  // Every tensor of theirs divides; for the others of their base models the flag was set.
  deepEqual(text.filter(({ supportsTensor }) => !supportsTensor), []);
  deepEqual(image.filter(({ supportsTensor }) => supportsTensor), []);
  deepEqual(text.filter((card) => thinks(card) && card.reasoningDialect === "none"), []);
  deepEqual(text.filter(({ numKeyValueHeads }) => numKeyValueHeads === undefined), []);
  // Were gigabytes taken for gibibytes: 132 GB are 123 GiB.
  const [four, eight] = named("Qwen3-235B").map(({ storageSize }) => storageSize.inBytes / GIB);
  match(`${four?.toFixed(1)} ${eight?.toFixed(1)}`, /^123\.\d 232\.\d$/);
});

Deno.test("reasoning dialects are those of the models' families", () => {
  const dialects = (part: string) => [
    ...new Set(named(part).filter(thinks).map(({ reasoningDialect }) => reasoningDialect)),
  ];
  deepEqual(dialects("Kimi"), ["suffix"]);
  deepEqual(dialects("gpt-oss"), ["channel"]);
  deepEqual(dialects("Qwen3"), ["post_last_user"]);
  deepEqual(dialects("Step"), ["post_last_user"]);
  deepEqual(dialects("DeepSeek-V4"), ["tool_conditional"]);
});

Deno.test("sampling of answers with and without thinking has tables of its own", () => {
  const [step] = named("Step-3.5-Flash-4bit");
  deepEqual(step?.samplingDefaults, {
    temperature: 0.6,
    topP: 0.95,
    thinking: { temperature: 1, topP: 0.95 },
  });
  const [qwen] = named("Qwen3.5-9B-4bit");
  deepEqual(qwen?.samplingDefaults?.nonThinking, {
    temperature: 0.7,
    topP: 0.8,
    topK: 20,
    minP: 0,
    repetitionPenalty: 1,
    presencePenalty: 1.5,
  });
});

Deno.test("only Kimi's cards name foreign repositories, and no card asks to run code", () => {
  const foreign = cards.filter(({ vision, modelId }) => vision && vision.weightsRepo !== modelId);
  deepEqual(
    foreign.map(({ modelId, vision }) => [modelId, vision?.weightsRepo, vision?.processorRepo]),
    [
      ["mlx-community/Kimi-K2.5", "davehind/Kimi-K2.5-vision", "moonshotai/Kimi-K2.5"],
      [
        "mlx-community/Kimi-K2.6-mlx-DQ3_K_M-q8",
        "exolabs/Kimi-K2.6-vision",
        "moonshotai/Kimi-K2.6",
      ],
      ["moonshotai/Kimi-K2.6", "exolabs/Kimi-K2.6-vision", "moonshotai/Kimi-K2.6"],
      [
        "moonshotai/Kimi-K2.7-Code",
        "aidiffuser/Kimi-K2.7-Code-vision",
        "moonshotai/Kimi-K2.7-Code",
      ],
    ],
  );
  for (const file of files) {
    ok(!Deno.readTextFileSync(new URL(file, CARDS)).includes("trust_remote_code"), file);
  }
});

Deno.test("image cards have one component that is spread over nodes: the transformer", () => {
  for (const { modelId, components = [], nLayers, usesCfg, hiddenSize, family } of image) {
    const spread = components.filter(({ canShard }) => canShard);
    deepEqual(spread.map(({ componentName }) => componentName), ["transformer"], modelId);
    equal(spread[0]?.nLayers, nLayers);
    equal(usesCfg, family === "qwen-image");
    equal(hiddenSize, 1);
    equal(components.length, family === "flux" ? 4 : 3);
  }
});

Deno.test("what was tried with exo says so", () => {
  const tested = cards.filter(({ tested }) => tested !== undefined);
  deepEqual(tested.map(({ modelId }) => modelId), ["HuggingFaceTB/SmolLM2-135M-Instruct"]);
});
