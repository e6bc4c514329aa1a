import { z } from "zod";
import type { Tensor } from "../../ffi/mod.ts";
import { embedding, type Layer, linear, rmsNorm, swiglu } from "../mlx/layers.ts";
import type { WeightCuts } from "../mlx/weight_cuts.ts";
import type { Weights } from "../mlx/weights.ts";
import { type CutOptions, type LayerCuts, modelCuts } from "./cuts.ts";
import { extentOf, type ModelPart, splitsVocabulary, vocabularyOf } from "./part.ts";
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
  { path: ["sliding_window"], message: "a number of positions" },
).transform((json) => ({
  ...json,
  kvHeads: json.num_key_value_heads ?? json.num_attention_heads,
  headDim: json.head_dim ?? json.hidden_size / json.num_attention_heads,
  theta: json.rope_theta ?? json.rope_parameters?.rope_theta ?? 10_000,
  scaling: json.rope_scaling ?? json.rope_parameters ?? { rope_type: "default" as const },
  contextTokens: json.max_position_embeddings ?? 2048,
}));
type Args = z.infer<typeof LlamaArgs>;

/** One half of a block: rows [M, D] to [M, D]. */
type Half = (x: Tensor, attend: Attend) => Tensor;

/** What the layers of a part have in common. */
interface Shared {
  readonly args: Args;
  readonly part: ModelPart;
  readonly rotary: Rotary;
}

/** What a layer's rows see: without types of layers, the window is that of all of them. */
function windowOf(layer: number, { sliding_window, layer_types }: Args): { window?: number } {
  const slides = layer_types?.[layer] !== "full_attention";
  return sliding_window && slides ? { window: sliding_window } : {};
}

/** Heads of the part: its share of them in a slice. */
function ownHeads(heads: number, part: ModelPart): number {
  return part.type === "slice" ? heads / part.size : heads;
}

/** A layer of which the ranks of a slice each compute a part of a sum. */
function summed(part: ModelPart, layer: Layer): Layer {
  return part.type === "slice" ? (x) => part.sum(layer(x)) : layer;
}

/**
 * Grouped-query attention, within a window where there is one: of layer `layer` of the model, whose
 * keys and values are in the part's `cached`th cache. Source: arXiv:2305.13245.
 */
function attention(weights: Weights, layer: number, cached: number, shared: Shared): Half {
  const { args, part, rotary } = shared;
  const { num_attention_heads, hidden_size: D, kvHeads: allKvHeads, headDim } = args;
  const matrix = (name: string, outputs: number, inputs: number) =>
    linear(weights, `model.layers.${layer}.self_attn.${name}`, { outputs, inputs });
  const q = matrix("q_proj", num_attention_heads * headDim, D);
  const k = matrix("k_proj", allKvHeads * headDim, D);
  const v = matrix("v_proj", allKvHeads * headDim, D);
  const o = summed(part, matrix("o_proj", D, num_attention_heads * headDim));
  const options = {
    layer: cached,
    heads: ownHeads(num_attention_heads, part),
    kvHeads: ownHeads(allKvHeads, part),
    ...{ headDim, scale: headDim ** -0.5, rotary, ...windowOf(layer, args) },
  };
  return (x, attend) => o(attend({ queries: q(x), keys: k(x), values: v(x) }, options));
}

/** SwiGLU. Source: arXiv:2002.05202. */
function mlp(weights: Weights, path: string, { args, part }: Shared): Layer {
  const { hidden_size: inputs, intermediate_size: outputs } = args;
  const gate = linear(weights, `${path}.gate_proj`, { outputs, inputs });
  const up = linear(weights, `${path}.up_proj`, { outputs, inputs });
  const down = summed(
    part,
    linear(weights, `${path}.down_proj`, { outputs: inputs, inputs: outputs }),
  );
  const activate = swiglu(weights);
  return (x) => down(activate(gate(x), up(x)));
}

/** Attention, then MLP, each on normed input and added to the stream. */
function block(weights: Weights, layer: number, cached: number, shared: Shared): Half {
  const path = `model.layers.${layer}`;
  const { hidden_size: dims, rms_norm_eps: eps } = shared.args;
  const attended = attention(weights, layer, cached, shared);
  const feed = mlp(weights, `${path}.mlp`, shared);
  const beforeAttention = rmsNorm(weights, `${path}.input_layernorm`, { dims, eps });
  const beforeMlp = rmsNorm(weights, `${path}.post_attention_layernorm`, { dims, eps });
  return (x, attend) => {
    const h = x.add(attended(beforeAttention(x), attend));
    return h.add(feed(beforeMlp(h)));
  };
}

/** How the ranks of a tensor-parallel group divide a layer. Source: arXiv:1909.08053, section 3. */
const LAYER_CUTS: LayerCuts = {
  "self_attn.q_proj": { by: "outputs", of: "queries" },
  "self_attn.k_proj": { by: "outputs", of: "keys" },
  "self_attn.v_proj": { by: "outputs", of: "keys" },
  "self_attn.o_proj": { by: "inputs", of: "queries" },
  "mlp.gate_proj": { by: "outputs", of: "features" },
  "mlp.up_proj": { by: "outputs", of: "features" },
  "mlp.down_proj": { by: "inputs", of: "features" },
};

/** What a part of a llama has of its weights. @throws {AppError} as {@linkcode modelCuts} does. */
export function llamaCuts(args: Args, options: CutOptions): WeightCuts {
  return modelCuts({
    layerCount: args.num_hidden_layers,
    vocabSize: args.vocab_size,
    heads: args.num_attention_heads,
    kvHeads: args.kvHeads,
    headDim: args.headDim,
    features: args.intermediate_size,
    isTied: args.tie_word_embeddings,
    linears: LAYER_CUTS,
  }, options);
}

/** The llama family, Mistral's included, or a part of one. Source: arXiv:2302.13971. */
export function llama(args: Args, weights: Weights, part: ModelPart): TextModel {
  weights.drop((name) => name.endsWith("rotary_emb.inv_freq"));
  if (args.tie_word_embeddings) weights.drop((name) => name.startsWith("lm_head."));
  const { vocab_size: vocabSize, hidden_size: dims, kvHeads, headDim } = args;
  const embedAndHead = ends(args, weights, part);
  const { layers: { from, to } } = extentOf(part, args.num_hidden_layers);
  const layers = Array.from({ length: to - from }, (_, cached) => from + cached);
  const shared = { args, part, rotary: rotary(weights, args) };
  const enter = typed(weights, part);
  const blocks = layers.map((layer, cached) => block(weights, layer, cached, shared));
  return {
    kvLayers: layers.map((layer) => ({
      ...{ kvHeads: ownHeads(kvHeads, part), keyDim: headDim, valueDim: headDim },
      ...windowOf(layer, args),
    })),
    wholeKvLayers: Array.from({ length: args.num_hidden_layers }, () => {
      return { kvHeads, keyDim: headDim, valueDim: headDim };
    }),
    window: Math.max(
      ...Array.from({ length: args.num_hidden_layers }, (_, layer) => {
        return windowOf(layer, args).window ?? Infinity;
      }),
    ),
    sums: part.type === "slice",
    vocabSize,
    vocabulary: splitsVocabulary(part) ? vocabularyOf(vocabSize, part) : { from: 0, to: vocabSize },
    hiddenSize: dims,
    contextTokens: args.contextTokens,
    layers: (x, attend) => blocks.reduce((h, run) => run(h, attend), enter(x)),
    ...embedAndHead,
  };
}

/** Casts what comes from another stage to what the layers compute in; kernels of ours know f32 only. */
function typed(weights: Weights, part: ModelPart): Layer {
  if (part.type !== "stage" || part.startLayer === 0 || weights.isPacked) return (x) => x;
  const { dtype } = weights.take(`model.layers.${part.startLayer}.input_layernorm.weight`);
  return (x) => x.astype(dtype);
}

/** Embedding and head, where the part has them. */
function ends(args: Args, weights: Weights, part: ModelPart): Pick<TextModel, "embed" | "logits"> {
  const { vocab_size: vocabSize, hidden_size: dims, tie_word_embeddings: isTied } = args;
  const { hasEmbedding, hasHead } = extentOf(part, args.num_hidden_layers);
  const table = hasEmbedding || (hasHead && isTied)
    ? embedding(weights, "model.embed_tokens", { vocabSize, dims })
    : undefined;
  const embed = hasEmbedding && table
    ? { embed: splitsVocabulary(part) ? summed(part, table.embed) : table.embed }
    : {};
  if (!hasHead) return embed;
  const norm = rmsNorm(weights, "model.norm", { dims, eps: args.rms_norm_eps });
  const head = isTied && table
    ? table.asHead
    : linear(weights, "lm_head", { outputs: vocabSize, inputs: dims });
  return { ...embed, logits: (hidden) => head(norm(hidden)) };
}
