import { join } from "node:path";
import {
  type Dtype,
  fromArray,
  quantize,
  saveSafetensors,
  Scope,
  type Tensor,
} from "../../ffi/mod.ts";
import { Random } from "./random.ts";

/** What a random llama is like; what is left out is as in {@linkcode SHAPE}. */
export interface RandomLlama {
  /** Changes to its config. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly dtype?: Dtype;
  /** Its matrices are quantised so, in mode "affine". */
  readonly quantized?: { readonly groupSize: number; readonly bits: number };
  /** Whether its linears have biases. */
  readonly hasBiases?: boolean;
  readonly seed?: number;
}

/** 8 query heads on 4 KV heads; neither vocabulary nor MLP divides by many. */
const SHAPE = {
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 5,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 16,
  vocab_size: 101,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  max_position_embeddings: 256,
  tie_word_embeddings: false,
};

/** Writes a llama of random weights, the same for a seed, as a checkpoint folder. */
export async function randomLlama(folder: string, llama: RandomLlama = {}): Promise<string> {
  const config = { ...SHAPE, ...llama.config };
  const { groupSize: group_size, bits } = llama.quantized ?? {};
  const quantization = bits ? { quantization: { group_size, bits } } : {};
  await Deno.mkdir(folder, { recursive: true });
  const json = JSON.stringify({ ...config, ...quantization });
  await Deno.writeTextFile(join(folder, "config.json"), json);
  await Deno.writeTextFile(join(folder, "tokenizer.json"), "{}");
  using _scope = new Scope();
  saveSafetensors(join(folder, "model.safetensors"), weightsOf(config, llama));
  return folder;
}

function weightsOf(config: typeof SHAPE, llama: RandomLlama): Map<string, Tensor> {
  const { hidden_size: D, intermediate_size: inner, head_dim, vocab_size: V } = config;
  const [q, kv] = [config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim];
  const random = new Random(llama.seed ?? 1);
  const tensors = new Map<string, Tensor>();
  const filled = (shape: readonly number[], middle: number, spread: number) => {
    const count = shape.reduce((product, n) => product * n, 1);
    const values = Float32Array.from({ length: count }, () => middle + spread * random.next());
    return fromArray(values, shape).astype(llama.dtype ?? "float32");
  };
  const matrix = (path: string, outputs: number, inputs: number) => {
    const spread = 4 / Math.sqrt(inputs);
    const dense = filled([outputs, inputs], -spread / 2, spread);
    const parts = llama.quantized ? quantize(dense, llama.quantized) : { weight: dense };
    for (const [kind, part] of Object.entries(parts)) tensors.set(`${path}.${kind}`, part);
  };
  const linear = (path: string, outputs: number, inputs: number) => {
    matrix(path, outputs, inputs);
    if (llama.hasBiases) tensors.set(`${path}.bias`, filled([outputs], -0.5, 1));
  };
  const norm = (path: string) => tensors.set(`${path}.weight`, filled([D], 0.5, 1));
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const at = `model.layers.${layer}`;
    for (const name of ["q_proj", "k_proj", "v_proj"]) {
      linear(`${at}.self_attn.${name}`, name === "q_proj" ? q : kv, D);
    }
    linear(`${at}.self_attn.o_proj`, D, q);
    for (const name of ["gate_proj", "up_proj"]) linear(`${at}.mlp.${name}`, inner, D);
    linear(`${at}.mlp.down_proj`, D, inner);
    norm(`${at}.input_layernorm`);
    norm(`${at}.post_attention_layernorm`);
  }
  matrix("model.embed_tokens", V, D);
  norm("model.norm");
  if (!config.tie_word_embeddings) matrix("lm_head", V, D);
  return tensors;
}
