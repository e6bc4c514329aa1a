import { z } from "zod";
import type { Tensor } from "../../ffi/mod.ts";
import { embedding, type Layer, linear, rmsNorm, swiglu } from "../mlx/layers.ts";
import type { Weights } from "../mlx/weights.ts";
import { RopeScaling, type Rotary, rotary } from "./rope.ts";
import type { Attend, TextModel } from "./text_model.ts";

const count = z.number().int().min(1);

/** More than any model has, and little enough to make a table for each. */
const LAYERS_MAX = 10_000;
const HEAD_DIM_MAX = 1_024;

/** What a llama's `config.json` says. Source: transformers, configuration_llama.py (5.23). */
export const LlamaArgs = z.object({
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count.max(LAYERS_MAX),
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.max(HEAD_DIM_MAX).nullish(),
  vocab_size: count,
  rms_norm_eps: z.number().gt(0),
  max_position_embeddings: count.nullish(),
  /** Last positions that a row sees, its own included, in all layers or those of that type. */
  sliding_window: count.nullish(),
  tie_word_embeddings: z.boolean().default(false),
  hidden_act: z.literal("silu").default("silu"),
  layer_types: z.array(z.enum(["full_attention", "sliding_attention"])).nullish(),
  rope_theta: z.number().gt(0).nullish(),
  rope_scaling: RopeScaling.optional(),
  rope_parameters: RopeScaling.and(z.object({ rope_theta: z.number().gt(0).optional() }))
    .optional(),
}).refine(
  (json) => json.num_attention_heads % (json.num_key_value_heads ?? 1) === 0,
  { path: ["num_key_value_heads"], message: "a divisor of num_attention_heads" },
).refine(
  (json) => {
    const headDim = json.head_dim ?? json.hidden_size / json.num_attention_heads;
    return headDim % 2 === 0 && headDim <= HEAD_DIM_MAX; // Its features turn in pairs.
  },
  { path: ["head_dim"], message: `an even number up to ${HEAD_DIM_MAX}` },
).refine(
  ({ layer_types, num_hidden_layers }) => !layer_types || layer_types.length === num_hidden_layers,
  { path: ["layer_types"], message: "a type for each of num_hidden_layers" },
).refine(
  ({ layer_types, sliding_window }) =>
    Boolean(sliding_window) || !layer_types?.includes("sliding_attention"),
  { path: ["sliding_window"], message: "the width of the layers with sliding_attention" },
).transform((json) => ({
  ...json,
  kvHeads: json.num_key_value_heads ?? json.num_attention_heads,
  headDim: json.head_dim ?? json.hidden_size / json.num_attention_heads,
  theta: json.rope_theta ?? json.rope_parameters?.rope_theta ?? 10_000,
  scaling: json.rope_scaling ?? json.rope_parameters ?? { rope_type: "default" as const },
  contextTokens: json.max_position_embeddings ?? 2048,
}));
type Args = z.infer<typeof LlamaArgs>;

/** One part of a block: rows [M, D] to [M, D]. */
type Part = (x: Tensor, attend: Attend) => Tensor;

/** What a layer's rows see: without types of layers, the window is that of all of them. */
function windowOf(layer: number, { sliding_window, layer_types }: Args): { window?: number } {
  const slides = layer_types?.[layer] !== "full_attention";
  return sliding_window && slides ? { window: sliding_window } : {};
}

/** Grouped-query attention, within a window where there is one. Source: arXiv:2305.13245. */
function attention(weights: Weights, layer: number, args: Args, rotary: Rotary): Part {
  const { num_attention_heads: heads, hidden_size: D, kvHeads, headDim } = args;
  const part = (name: string, outputs: number, inputs: number) =>
    linear(weights, `model.layers.${layer}.self_attn.${name}`, { outputs, inputs });
  const q = part("q_proj", heads * headDim, D);
  const k = part("k_proj", kvHeads * headDim, D);
  const v = part("v_proj", kvHeads * headDim, D);
  const o = part("o_proj", D, heads * headDim);
  const window = windowOf(layer, args);
  const options = { layer, heads, kvHeads, headDim, scale: headDim ** -0.5, rotary, ...window };
  return (x, attend) => o(attend({ queries: q(x), keys: k(x), values: v(x) }, options));
}

/** SwiGLU. Source: arXiv:2002.05202. */
function mlp(weights: Weights, path: string, args: Args): Layer {
  const { hidden_size: inputs, intermediate_size: outputs } = args;
  const gate = linear(weights, `${path}.gate_proj`, { outputs, inputs });
  const up = linear(weights, `${path}.up_proj`, { outputs, inputs });
  const down = linear(weights, `${path}.down_proj`, { outputs: inputs, inputs: outputs });
  const activate = swiglu(weights);
  return (x) => down(activate(gate(x), up(x)));
}

/** Attention, then MLP, each on normed input and added to the stream. */
function block(weights: Weights, layer: number, args: Args, rotary: Rotary): Part {
  const path = `model.layers.${layer}`;
  const attended = attention(weights, layer, args, rotary);
  const feed = mlp(weights, `${path}.mlp`, args);
  const shape = { dims: args.hidden_size, eps: args.rms_norm_eps };
  const beforeAttention = rmsNorm(weights, `${path}.input_layernorm`, shape);
  const beforeMlp = rmsNorm(weights, `${path}.post_attention_layernorm`, shape);
  return (x, attend) => {
    const h = x.add(attended(beforeAttention(x), attend));
    return h.add(feed(beforeMlp(h)));
  };
}

/** The llama family, Mistral's included. Source: arXiv:2302.13971. */
export function llama(args: Args, weights: Weights): TextModel {
  weights.drop((name) => name.endsWith("rotary_emb.inv_freq"));
  if (args.tie_word_embeddings) weights.drop((name) => name.startsWith("lm_head."));
  const { vocab_size: vocabSize, hidden_size: dims } = args;
  const { embed, asHead } = embedding(weights, "model.embed_tokens", { vocabSize, dims });
  const turn = rotary(weights, args);
  const blocks = Array.from(
    { length: args.num_hidden_layers },
    (_, layer) => block(weights, layer, args, turn),
  );
  const norm = rmsNorm(weights, "model.norm", { dims, eps: args.rms_norm_eps });
  const head = args.tie_word_embeddings
    ? asHead
    : linear(weights, "lm_head", { outputs: vocabSize, inputs: dims });
  const { kvHeads, headDim } = args;
  return {
    kvLayers: blocks.map((_, layer) => ({
      ...{ kvHeads, keyDim: headDim, valueDim: headDim },
      ...windowOf(layer, args),
    })),
    vocabSize,
    contextTokens: args.contextTokens,
    hidden: (ids, attend) => blocks.reduce((x, run) => run(x, attend), embed(ids)),
    logits: (hidden) => head(norm(hidden)),
  };
}
