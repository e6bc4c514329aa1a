import { join } from "node:path";
import { writeSyntheticModel } from "../../bench/synthetic_model.ts";
import { readGgufHeader } from "../../engines/text/gguf_file.ts";
import { safetensors } from "./checkpoint.ts";
import { Random } from "./random.ts";

/** Lends its tokenizer and its vocabulary of 320 tokens. */
const TINY = new URL("../golden/models/tiny-tied", import.meta.url).pathname;
const VOCABULARY = 320;

/** Heads that divide by 2 and by 4, so that two and four ranks can share them. */
const HEADS = { heads: 8, kvHeads: 4 } as const;
const LAYERS = 4;

/** Widths of the model in f32: small, with heads as wide as our kernels want them. */
const DENSE = { hidden: 128, headDim: 16, feedForward: 256 } as const;

/** Widths of the quantised one: a quarter of each is whole blocks of 32. */
const QUANTIZED = {
  ...{ name: "random-8-4", layers: LAYERS, hidden: 256, feedForward: 512 },
  ...{ ...HEADS, contextTokens: 2048 },
} as const;

/** Deviation of weights: large enough that the likeliest tokens stand apart. */
const DEVIATION = 0.2;

/** Writes a llama of 8 query and 4 KV heads with random f32 weights; a seed gives the same one. */
export async function randomLlama(folder: string, seed = 1): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  for (const file of ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]) {
    await Deno.copyFile(join(TINY, file), join(folder, file));
  }
  const config = JSON.parse(await Deno.readTextFile(join(TINY, "config.json")));
  const changed = {
    ...{ ...config, num_hidden_layers: LAYERS, hidden_size: DENSE.hidden },
    ...{ num_attention_heads: HEADS.heads, num_key_value_heads: HEADS.kvHeads },
    ...{ head_dim: DENSE.headDim, intermediate_size: DENSE.feedForward },
  };
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(changed));
  await Deno.writeFile(join(folder, "model.safetensors"), safetensors(tensorsOf(seed)));
}

/** Likewise as a GGUF of Q4_1 matrices, with the tokenizer of another GGUF. */
export async function randomQuantizedLlama(path: string, lender: string, seed = 1): Promise<void> {
  await writeSyntheticModel(path, { shape: QUANTIZED, tokenizer: readGgufHeader(lender), seed });
}

function tensorsOf(seed: number) {
  const random = new Random(seed);
  const { hidden, headDim, feedForward } = DENSE;
  const matrix = (...shape: number[]) => {
    const data = new Float32Array(shape.reduce((product, length) => product * length, 1));
    for (let at = 0; at < data.length; at++) data[at] = (random.next() * 2 - 1) * DEVIATION;
    return { shape, data };
  };
  const ones = () => ({ shape: [hidden], data: new Float32Array(hidden).fill(1) });
  const [queries, keys] = [HEADS.heads * headDim, HEADS.kvHeads * headDim];
  const layers = Array.from({ length: LAYERS }, (_, layer) =>
    Object.entries({
      "input_layernorm.weight": ones(),
      "post_attention_layernorm.weight": ones(),
      "self_attn.q_proj.weight": matrix(queries, hidden),
      "self_attn.k_proj.weight": matrix(keys, hidden),
      "self_attn.v_proj.weight": matrix(keys, hidden),
      "self_attn.o_proj.weight": matrix(hidden, queries),
      "mlp.gate_proj.weight": matrix(feedForward, hidden),
      "mlp.up_proj.weight": matrix(feedForward, hidden),
      "mlp.down_proj.weight": matrix(hidden, feedForward),
    }).map(([name, tensor]) => [`model.layers.${layer}.${name}`, tensor] as const));
  return Object.fromEntries([
    ["model.embed_tokens.weight", matrix(VOCABULARY, hidden)],
    ...layers.flat(),
    ["model.norm.weight", ones()],
  ]);
}
