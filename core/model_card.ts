import { z } from "zod";
import { ModelId } from "./ids.ts";
import { SamplingParams } from "./sampling.ts";

/** What a node can compute with. */
export const Backend = z.enum(["MlxMetal", "MlxCpu", "MlxCuda", "Vllm"]);
export type Backend = z.infer<typeof Backend>;

/** What a model needs and can do; the basis of placement. */
export const ModelCard = z.object({
  modelId: ModelId,
  /** All weights as stored. */
  storageSize: z.object({ inBytes: z.number().int().min(0) }),
  nLayers: z.number().int().min(1),
  hiddenSize: z.number().int().min(1),
  supportsTensor: z.boolean(),
  numKeyValueHeads: z.number().int().min(1).optional(),
  tasks: z.array(z.enum(["TextGeneration", "TextToImage", "ImageToImage"])).min(1),
  backends: z.array(Backend).min(1),
  family: z.string().default(""),
  /** As the files are stored, such as `Q4_1` or `4bit`; empty for unquantised weights. */
  quantization: z.string().default(""),
  baseModel: z.string().default(""),
  capabilities: z.array(z.string()).default([]),
  reasoningDialect: z.enum(["none", "post_last_user", "suffix", "channel", "tool_conditional"])
    .default("none"),
  /** Tokens; 0 when unknown. */
  contextLength: z.number().int().min(0).default(0),
  /** Last tokens that each layer sees, where all have such a window: what is behind is not kept. */
  slidingWindow: z.number().int().min(1).optional(),
  /** The checkpoint's `model_type`, such as `llama`. */
  architecture: z.string().optional(),
  /** Bytes that the KV cache takes for one token over all layers, unquantised. */
  kvBytesPerToken: z.number().int().min(0).optional(),
  samplingDefaults: SamplingParams.optional(),
  /** Image models: whether each step is computed with and without the prompt. */
  usesCfg: z.boolean().optional(),
  license: z.string().optional(),
  isCustom: z.boolean().default(false),
});
export type ModelCard = z.infer<typeof ModelCard>;

/** `SmolLM2-135M` of `org/SmolLM2-135M`. */
export function shortName(modelId: ModelId): string {
  return modelId.slice(modelId.lastIndexOf("/") + 1);
}

/**
 * The one model that `wanted` names: its id, its short name, or a prefix of either that no other
 * model shares. `modelId` is absent when there is none, or several: those are the candidates.
 */
export function matchModel(
  wanted: string,
  known: Iterable<ModelId>,
): { modelId?: ModelId; candidates: ModelId[] } {
  const ids = wanted === "" ? [] : [...known];
  const rules: ((id: ModelId) => boolean)[] = [
    (id) => id === wanted,
    (id) => shortName(id) === wanted,
    (id) => id.startsWith(wanted) || shortName(id).startsWith(wanted),
  ];
  for (const rule of rules) {
    const candidates = ids.filter(rule);
    const [only] = candidates;
    if (only !== undefined) {
      return candidates.length === 1 ? { modelId: only, candidates } : { candidates };
    }
  }
  return { candidates: [] };
}
