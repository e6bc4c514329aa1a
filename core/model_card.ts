import { z } from "zod";
import { AppError } from "./errors.ts";
import { ModelId } from "./ids.ts";
import { firstIssue } from "./issues.ts";
import { SamplingParams } from "./sampling.ts";

/** What a node can compute with. */
export const Backend = z.enum(["MlxMetal", "MlxCpu", "MlxCuda", "Vllm"]);
export type Backend = z.infer<typeof Backend>;

const bytes = z.number().int().min(0);
const StorageSize = z.object({ inBytes: bytes });

/** A part of an image model that lies in a folder of its own. */
const Component = z.object({
  componentName: z.string().min(1),
  componentPath: z.string().min(1),
  /** 0 where it is not known. */
  storageSize: StorageSize,
  nLayers: z.number().int().min(1).optional(),
  /** Whether its layers may be spread over nodes. */
  canShard: z.boolean(),
  safetensorsIndexFilename: z.string().min(1).optional(),
});

/** How a model that sees takes its pictures. */
const Vision = z.object({
  imageTokenId: z.number().int().min(0),
  modelType: z.string().min(1),
  /** The repository of the encoder's weights; in a file, empty stands for the model's own. */
  weightsRepo: z.string().default(""),
  imageToken: z.string().min(1).optional(),
  processorRepo: z.string().min(1).optional(),
});

/** What a model needs and can do; the basis of placement. */
export const ModelCard = z.object({
  modelId: ModelId,
  /** All weights as stored. */
  storageSize: StorageSize,
  nLayers: z.number().int().min(1),
  /** 1 for image models, where it has no meaning. */
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
  kvBytesPerToken: bytes.optional(),
  /** The sub-tables hold for answers with and without thinking, before the fields beside them. */
  samplingDefaults: SamplingParams.extend({
    thinking: SamplingParams.optional(),
    nonThinking: SamplingParams.optional(),
  }).optional(),
  /** Tokens that end an answer, beside those that the checkpoint names. */
  eosTokenIds: z.array(z.number().int().min(0)).optional(),
  /** Overrides what the chat template tells of the form of tool calls. */
  toolFormat: z.string().min(1).optional(),
  /** Image models: whether each step is computed with and without the prompt. */
  usesCfg: z.boolean().optional(),
  components: z.array(Component).optional(),
  vision: Vision.optional(),
  license: z.string().optional(),
  /** Whether its publisher has to admit whoever fetches it. */
  gated: z.boolean().optional(),
  /** The commit of its repository that the card tells of. */
  commit: z.string().regex(/^[0-9a-f]{40}$/).optional(),
  /** All files of the repository, where that is known: what a download takes. */
  filesSize: StorageSize.optional(),
  /** The oldest exo that can run it. */
  minExoVersion: z.string().regex(/^\d+\.\d+\.\d+$/).optional(),
  /** In what form the model was tried with exo; absent: in none. */
  tested: z.string().min(1).optional(),
  /** Settings of evaluations, read by them alone. */
  eval: z.record(z.string(), z.unknown()).optional(),
  isCustom: z.boolean().default(false),
});
export type ModelCard = z.infer<typeof ModelCard>;

/** The fields of a card's file. That code of the model may run, a file may say: none ever does. */
const CardFile = ModelCard.omit({ isCustom: true })
  .extend({ trustRemoteCode: z.boolean().optional() });

/** Where a card comes from. */
export interface CardSource {
  /** What messages call it. */
  readonly file: string;
  /** Whether the user put it there. */
  readonly isCustom: boolean;
  /** The exo that is to run it. */
  readonly exoVersion: string;
}

/**
 * The card that a parsed TOML file holds, its names in `snake_case`. What this version does not
 * know is left out, and told as a warning: a newer card must not break an older node.
 * @throws {AppError} `corrupt_model` for a field that is missing or wrong, `unsupported_model` for
 * a card that needs a newer exo.
 */
export function parseModelCard(
  json: unknown,
  { file, isCustom, exoVersion }: CardSource,
): { card: ModelCard; warnings: string[] } {
  const fields = withCamelNames(json);
  const parsed = CardFile.safeParse(fields);
  if (!parsed.success) throw malformed(file, parsed.error, fields);
  const { trustRemoteCode: _ignored, vision, ...others } = parsed.data;
  const { modelId, minExoVersion = exoVersion } = others;
  if (isOlder(exoVersion, minExoVersion)) {
    const message =
      `Cannot use the model card "${file}": exo ${exoVersion} found, ${minExoVersion} needed`;
    const hint = `update exo to ${minExoVersion}, or remove the card`;
    throw new AppError("unsupported_model", message, { hint });
  }
  const seeing = vision && { vision: { ...vision, weightsRepo: vision.weightsRepo || modelId } };
  const card = { ...others, ...seeing, isCustom };
  return { card, warnings: lostFields(json, parsed.data).map(ignored) };
}

function ignored(field: string): string {
  return `the unknown field "${field}" is ignored`;
}

function malformed(file: string, error: z.ZodError, fields: unknown): AppError {
  const { param, found, needed } = firstIssue(error, fields);
  const field = param.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const what = field === "" ? "" : ` as "${field}"`;
  const message = `Cannot read the model card "${file}": found ${found}${what}, ${needed} needed`;
  const hint = "correct the file; cards/ in exo's source has cards to compare it with";
  return new AppError("corrupt_model", message, { hint });
}

/** `kvHeads` of `kv_heads`. A name that is not in `snake_case` becomes one that nothing has. */
function camelName(name: string): string {
  return name.replace(/[A-Z]/g, "_$&").replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
}

/** Tables and lists of tables with their names as ours; `eval` is left as it is. */
function withCamelNames(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withCamelNames);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([name, inner]) => [
    camelName(name),
    name === "eval" ? inner : withCamelNames(inner),
  ]);
  return Object.fromEntries(entries);
}

/** The paths in `input` that a schema has dropped on the way to `output`. */
function lostFields(input: unknown, output: object, path = ""): string[] {
  if (typeof input !== "object" || input === null) return [];
  const kept = new Map(Object.entries(output));
  return Object.entries(input).flatMap(([name, inner]) => {
    const value: unknown = kept.get(camelName(name));
    if (value === undefined) return [`${path}${name}`];
    return name === "eval" ? [] : lostFields(inner, Object(value), `${path}${name}.`);
  });
}

/** Whether one version comes before another; what follows the three numbers does not count. */
function isOlder(version: string, than: string): boolean {
  const sortable = (one: string) => one.split(/\D+/, 3).map((part) => part.padStart(9, "0")).join();
  return sortable(version) < sortable(than);
}

/** Whether a model makes pictures. */
export function isImageModel({ tasks }: Pick<ModelCard, "tasks">): boolean {
  return tasks.some((task) => task !== "TextGeneration");
}

/** A model's id as the name of a file or folder. */
export function normalizedId(modelId: string): string {
  return modelId.replaceAll("/", "--");
}

/** `SmolLM2-135M` of `org/SmolLM2-135M`. */
export function shortName(modelId: ModelId): string {
  return modelId.slice(modelId.lastIndexOf("/") + 1);
}

type NameRule = (id: ModelId) => boolean;

/**
 * The one model that `wanted` names: its id, its short name, either in another case, or a prefix
 * in any case that no other model shares. Of several `pools`, an earlier one comes first for all but the exact
 * names, so that what is at hand needs no full name. `modelId` is absent when there is none, or
 * several: those are the candidates.
 */
export function matchModel(
  wanted: string,
  ...pools: readonly Iterable<ModelId>[]
): { modelId?: ModelId; candidates: ModelId[] } {
  if (wanted === "") return { candidates: [] };
  const lists = pools.map((pool) => [...pool]);
  for (const [rule, ids] of rulesFor(wanted, lists)) {
    const candidates = ids.filter(rule);
    const [only] = candidates;
    if (only === undefined) continue;
    return candidates.length === 1 ? { modelId: only, candidates } : { candidates };
  }
  return { candidates: [] };
}

/** The rules of names in their order, each with the ids that it is tried on. */
function* rulesFor(
  wanted: string,
  pools: readonly (readonly ModelId[])[],
): Generator<[NameRule, readonly ModelId[]]> {
  const exact: NameRule[] = [(id) => id === wanted, (id) => shortName(id) === wanted];
  for (const rule of exact) for (const ids of pools) yield [rule, ids];
  const typed = wanted.toLowerCase();
  const names = (id: ModelId) => [id, shortName(id)].map((name) => name.toLowerCase());
  const loose: NameRule[] = [
    (id) => names(id).includes(typed),
    (id) => names(id).some((name) => name.startsWith(typed)),
  ];
  for (const ids of pools) for (const rule of loose) yield [rule, ids];
}
