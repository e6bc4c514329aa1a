import { join } from "node:path";
import { AppError } from "../../core/errors.ts";
import { resolveSampling } from "../../core/sampling.ts";
import type { BoundModel, Engine } from "../../engines/engine.ts";
import { Sampler } from "../../engines/sampler.ts";
import { QUEUED_MAX, QUEUED_PER_TENANT_MAX } from "../../engines/text/queue_places.ts";
import { TextBuilder } from "../../engines/text_builder.ts";
import { fromArray, sampleRows } from "../../ffi/mod.ts";
import { bind, goldenPath, task } from "../engines/golden.ts";
import { GGUF, ggufBytes, type GgufEntry, type GgufParts, tinyGguf } from "../support/gguf.ts";
import { TempDir } from "../support/temp_dir.ts";
import type { Told } from "./told.ts";

const WEIGHTS = "model.safetensors";

type Change = (folder: string) => Promise<void>;
type Json = Record<string, unknown>;

/** Rewrites a JSON file of a checkpoint. */
function edit(name: string, change: (json: Json) => Json): Change {
  return async (folder) => {
    const path = join(folder, name);
    const json = JSON.parse(await Deno.readTextFile(path));
    await Deno.writeTextFile(path, JSON.stringify(change(json)));
  };
}

const config = (fields: Json) => edit("config.json", (json) => ({ ...json, ...fields }));
const tokenizer = (fields: Json) => edit("tokenizer.json", (json) => ({ ...json, ...fields }));
const template = (text: string) =>
  edit("tokenizer_config.json", (json) => ({ ...json, chat_template: text }));

/** Rewrites the header of the weights; the data stay as they are. */
function header(change: (json: Record<string, Json>) => Json): Change {
  return async (folder) => {
    const path = join(folder, WEIGHTS);
    const bytes = await Deno.readFile(path);
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const json = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    const text = new TextEncoder().encode(JSON.stringify(change(json)));
    const prefix = new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer);
    await Deno.writeFile(
      path,
      Uint8Array.from([...prefix, ...text, ...bytes.subarray(8 + length)]),
    );
  };
}

/** A tensor under another name: the one is missing then, and the other has no place. */
const renamed = (from: string, to: string): Change =>
  header(({ [from]: tensor, ...rest }) => ({ ...rest, [to]: tensor }));

const NORM = "model.norm.weight";
const Q = "model.layers.0.self_attn.q_proj.weight";

/** Checkpoint folders that cannot be loaded, by what is wrong with them. */
const FOLDERS: Readonly<Record<string, Change>> = {
  "a folder that is gone": (folder) => Deno.remove(folder, { recursive: true }),
  "no tokenizer": (folder) => Deno.remove(join(folder, "tokenizer.json")),
  "a tokenizer that is not JSON": (folder) =>
    Deno.writeTextFile(join(folder, "tokenizer.json"), "{"),
  "a tokenizer that is a list": (folder) =>
    Deno.writeTextFile(join(folder, "tokenizer.json"), "[]"),
  "a tokenizer of an unknown kind": tokenizer({ model: { type: "Runes" } }),
  "a tokenizer without a model": tokenizer({ model: undefined }),
  "a tokenizer with an unknown decoder": tokenizer({ decoder: { type: "CTC" } }),
  "a chat template that does not parse": template("{% for %}"),
  "no width of the MLP": config({ intermediate_size: undefined }),
  "a width of the MLP that is text": config({ intermediate_size: "wide" }),
  "heads that do not divide": config({ num_attention_heads: 4, num_key_value_heads: 3 }),
  "rope scaling of an unknown kind": config({ rope_scaling: { rope_type: "yarn", factor: 4 } }),
  "an activation of another kind": config({ hidden_act: "gelu" }),
  "layers of another kind": config({ layer_types: ["sliding_attention", "full_attention"] }),
  "quantisation of another kind": config({
    quantization_config: { quant_method: "gptq", bits: 4 },
  }),
  "quantisation of too many bits": config({ quantization: { group_size: 64, bits: 12 } }),
  "a tensor that is missing": renamed(NORM, "model.norm.weightless"),
  "a tensor that has no place": header((json) => {
    const ends = Object.values(json).map((tensor) =>
      (tensor["data_offsets"] as number[])?.[1] ?? 0
    );
    const end = Math.max(...ends);
    return { ...json, extra: { dtype: "F32", shape: [0], data_offsets: [end, end] } };
  }),
  "a tensor of another shape": header(({ [Q]: tensor, ...rest }) => {
    const [rows = 1, columns = 1] = tensor?.["shape"] as number[];
    return { ...rest, [Q]: { ...tensor, shape: [rows * 2, columns / 2] } };
  }),
  "a file that lacks what its index names": (folder) =>
    Deno.writeTextFile(
      join(folder, "model.safetensors.index.json"),
      JSON.stringify({ weight_map: { "model.lost.weight": WEIGHTS } }),
    ),
};

const base = tinyGguf();
const entries = (...more: GgufEntry[]): Partial<GgufParts> => ({
  entries: [...base.entries, ...more],
});
const kind = (name: string): GgufEntry => ["tokenizer.ggml.model", GGUF.string, name];
const TOKENS: GgufEntry = ["tokenizer.ggml.tokens", GGUF.array, ["a", "b"]];
const MERGES: GgufEntry = ["tokenizer.ggml.merges", GGUF.array, ["a b"]];
const EPSILON: GgufEntry = ["llama.attention.layer_norm_rms_epsilon", GGUF.f32, 1e-5];
const CHAT_READY = [TOKENS, kind("gpt2"), MERGES];

/** GGUF files that can be added and not loaded. */
const GGUFS: Readonly<Record<string, Partial<GgufParts>>> = {
  "a GGUF without a tokenizer": {},
  "a GGUF with a tokenizer of an unknown kind": entries(TOKENS, kind("runes")),
  "a GGUF that does not name its tokenizer": entries(TOKENS),
  "a GGUF with an unknown pre-tokenizer": entries(
    ...CHAT_READY,
    ["tokenizer.ggml.pre", GGUF.string, "runes"],
  ),
  "a GGUF without merges": entries(TOKENS, kind("gpt2")),
  "a GGUF with rope scaling of an unknown kind": entries(
    ["llama.rope.scaling.type", GGUF.string, "yarn"],
  ),
  "a GGUF of a mixture of experts": entries(["llama.expert_count", GGUF.u32, 8]),
  "a GGUF without the epsilon of its norms": entries(...CHAT_READY),
  "a GGUF without the tensors of its model": entries(...CHAT_READY, EPSILON),
  "a GGUF of heads that do not divide": {
    entries: [
      ...base.entries.filter(([key]) => key !== "llama.attention.head_count"),
      ["llama.attention.head_count", GGUF.u32, 4],
      ["llama.attention.head_count_kv", GGUF.u32, 3],
      ["llama.attention.key_length", GGUF.u32, 2],
      ...CHAT_READY,
      EPSILON,
    ],
    tensors: [{ name: "blk.0.attn_k.weight", shape: [8, 6], type: GGUF.tensorF32, offset: 0 }],
  },
  "a GGUF of a tensor of another shape": {
    ...entries(...CHAT_READY, EPSILON),
    tensors: [{ name: "token_embd.weight", shape: [8, 5], type: GGUF.tensorF32, offset: 0 }],
  },
  "a GGUF of queries that do not fit the heads": {
    entries: [...entries(...CHAT_READY).entries ?? []].map((entry) =>
      entry[0] === "llama.attention.head_count" ? [entry[0], entry[1], 3] : entry
    ),
  },
};

/** What a runner says when it cannot load its model. */
export async function failingLoads(): Promise<Told[]> {
  const whole = goldenPath("models/tiny-tied");
  const model = bind(whole);
  const told: Told[] = [];
  for (const [name, change] of Object.entries(FOLDERS)) {
    await using dir = await TempDir.make();
    for await (const { name } of Deno.readDir(whole)) {
      await Deno.copyFile(join(whole, name), join(dir.path, name));
    }
    await change(dir.path);
    told.push(loading({ name, by: "a checkpoint folder" }, { ...model, modelPath: dir.path }));
    await Deno.mkdir(dir.path, { recursive: true });
  }
  await using dir = await TempDir.make();
  const modelPath = join(dir.path, "model.gguf");
  const one = { ...model, modelPath, shard: { ...model.shard, endLayer: 1, nLayers: 1 } };
  for (const [name, changes] of Object.entries(GGUFS)) {
    await Deno.writeFile(modelPath, ggufBytes({ ...base, ...changes }));
    told.push(loading({ name, by: "a GGUF file" }, one));
  }
  const half = { ...model, shard: { ...model.shard, endLayer: 1 } };
  return [...told, loading({ name: "a part of a model", by: "layers 0 to 1 of 2" }, half)];
}

/** What an engine says to a request that it cannot answer. */
export async function refusedPrompts(): Promise<Told[]> {
  const engine = load(bind(goldenPath("models/tiny-tied"), {
    contextTokens: 40,
    maxConcurrentRequests: 1,
  }));
  const told = [
    asking(engine, "a prompt longer than the context", "x".repeat(50)),
    asking(engine, "a prompt many times the context", "word ".repeat(100_000)),
    toldBy(
      { name: "a bias of a token that the model lacks", by: "a bias of the token 1000000" },
      () => engine.submit(task("t", "hello", { logitBias: [[1_000_000, 1]] })),
    ),
  ];
  for (let i = 0; i < QUEUED_PER_TENANT_MAX; i++) engine.submit(task(`queued${i}`, "hello"));
  told.push(asking(engine, "a client that fills the queue", "hello"));
  for (let i = QUEUED_PER_TENANT_MAX; i < QUEUED_MAX; i++) {
    engine.submit(task(`queued${i}`, "hello", { client: "other" }));
  }
  told.push(asking(engine, "a queue that is full", "hello"));
  engine.close();
  await using dir = await TempDir.make();
  return [
    ...told,
    await templated(
      dir.path,
      "a template that refuses",
      "{{ raise_exception('roles must alternate') }}",
    ),
    await templated(dir.path, "a template that says nothing", "{{ '' }}"),
    await templated(dir.path, "no chat template", undefined),
    nothingToDraw(),
  ];
}

/** A step whose logits are no numbers, as of damaged weights. */
function nothingToDraw(): Told {
  const sampler = new Sampler({ sampling: resolveSampling({}), seed: 1n, promptIds: [] });
  const logits = fromArray([NaN, -Infinity], [1, 2]);
  const told = toldBy({ name: "logits that are no numbers", by: "a step of two tokens" }, () => {
    const [drawn] = sampleRows({ logits }, [{ ...sampler.next(), row: 0 }]);
    sampler.accept(drawn ?? { id: -1 });
  });
  logits[Symbol.dispose]();
  return told;
}

/** A question to a model with another chat template. */
async function templated(folder: string, name: string, text: string | undefined): Promise<Told> {
  const whole = goldenPath("models/tiny-tied");
  for await (const { name } of Deno.readDir(whole)) {
    await Deno.copyFile(join(whole, name), join(folder, name));
  }
  const path = join(folder, "tokenizer_config.json");
  const json = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(path, JSON.stringify({ ...json, chat_template: text }));
  const engine = load({ ...bind(whole), modelPath: folder });
  const told = asking(engine, name, "hello");
  engine.close();
  return told;
}

function load(model: BoundModel): Engine {
  const builder = new TextBuilder();
  for (const _ of builder.load(model));
  return builder.build();
}

function loading(case_: { name: string; by: string }, model: BoundModel): Told {
  return toldBy(case_, () => load(model).close());
}

function asking(engine: Engine, name: string, content: string): Told {
  const by = `a prompt of ${content.length} characters`;
  return toldBy({ name, by }, () => engine.submit(task("t", content)));
}

function toldBy(case_: { name: string; by: string }, attempt: () => unknown): Told {
  try {
    attempt();
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const { code, message, hint, param } = error;
    return { ...case_, outcome: code, message, hint, param };
  }
  return { ...case_, outcome: "taken", message: "" };
}
