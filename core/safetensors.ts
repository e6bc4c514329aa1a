import { z } from "zod";
import { corrupt } from "./corrupt_file.ts";
import { AppError } from "./errors.ts";
import type { ModelId } from "./ids.ts";
import { show } from "./issues.ts";
import { ModelCard } from "./model_card.ts";
import { SamplingParams } from "./sampling.ts";

/** Bytes of one element of each safetensors type that MLX reads, by name. */
const DTYPE_BYTES: ReadonlyMap<string, number> = new Map([
  ["BOOL", 1],
  ["U8", 1],
  ["I8", 1],
  ["U16", 2],
  ["I16", 2],
  ["F16", 2],
  ["BF16", 2],
  ["U32", 4],
  ["I32", 4],
  ["F32", 4],
  ["U64", 8],
  ["I64", 8],
  ["F64", 8],
]);

/** Longest JSON header that is read; the format's own limit. */
export const SAFETENSORS_HEADER_BYTES_MAX = 100_000_000;

/** The length before the header: one u64, little-endian. */
const PREFIX_BYTES = 8;

/** One tensor of a safetensors file; offsets count from the end of the header. */
export interface SafetensorsTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly start: number;
  readonly end: number;
}

/** What a safetensors file says about itself. */
export interface SafetensorsHeader {
  readonly tensors: readonly SafetensorsTensor[];
  /** Where the tensors' data begin, in bytes from the start of the file. */
  readonly dataOffset: number;
}

const length = z.number().int().min(0);
const RawTensor = z.object({
  dtype: z.string(),
  shape: z.array(length).max(32),
  data_offsets: z.tuple([length, length]),
});

/** What to do about a JSON file that lacks something. */
const PUBLISHED = "fetch the file again as it was published with the weights";

/**
 * The bytes that the header of a safetensors file takes, of which `start` holds the first 8.
 * @throws {AppError} `corrupt_model` when the file cannot hold such a header.
 */
export function safetensorsHeaderBytes(start: Uint8Array, file: string, fileBytes: number): number {
  if (start.length < PREFIX_BYTES) throw corrupt(file, `${fileBytes} bytes found, 8 needed`);
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const total = PREFIX_BYTES + Number(view.getBigUint64(0, true));
  if (total > fileBytes) {
    throw corrupt(file, `${fileBytes} bytes found, ${total} needed by its header`);
  }
  if (total > SAFETENSORS_HEADER_BYTES_MAX) {
    const limit = `${SAFETENSORS_HEADER_BYTES_MAX} at most possible`;
    throw corrupt(file, `its header has ${total} bytes, ${limit}`);
  }
  return total;
}

/**
 * The header in the first bytes of a file, checked against the file's size: every tensor lies in
 * the file, has the bytes that its shape needs, and shares none of them with another.
 * @param bytes At least {@linkcode safetensorsHeaderBytes} of them.
 * @throws {AppError} `corrupt_model`, or `unsupported_model` for an element type that MLX lacks.
 */
export function parseSafetensorsHeader(
  bytes: Uint8Array,
  file: string,
  fileBytes: number,
): SafetensorsHeader {
  const dataOffset = safetensorsHeaderBytes(bytes, file, fileBytes);
  if (bytes.length < dataOffset) {
    throw corrupt(file, `${bytes.length} bytes of its header found, ${dataOffset} needed`);
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes.subarray(PREFIX_BYTES, dataOffset)));
  } catch {
    throw corrupt(file, "its header is not JSON, a JSON object expected");
  }
  const entries = z.record(z.string(), z.unknown()).safeParse(json);
  if (!entries.success) throw corrupt(file, "its header is another JSON value, an object expected");
  const tensors = Object.entries(entries.data)
    .filter(([name]) => name !== "__metadata__")
    .map(([name, raw]) => toTensor(name, raw, file));
  checkLayout(tensors, fileBytes - dataOffset, file);
  return { tensors, dataOffset };
}

function toTensor(name: string, json: unknown, file: string): SafetensorsTensor {
  const raw = RawTensor.safeParse(json);
  if (!raw.success) {
    const needed = "dtype, shape and data_offsets expected";
    throw corrupt(file, `the entry of tensor "${name}" is malformed, ${needed}`);
  }
  const { dtype, shape, data_offsets: [start, end] } = raw.data;
  const elementBytes = DTYPE_BYTES.get(dtype);
  if (elementBytes === undefined) {
    throw new AppError(
      "unsupported_model",
      `Cannot load "${file}": tensor "${name}" has type ${dtype}, one of ${
        [...DTYPE_BYTES.keys()].join(", ")
      } needed`,
      { hint: "choose a checkpoint in BF16, F16 or F32, or one that MLX has quantised" },
    );
  }
  const needed = shape.reduce((product, n) => product * n, elementBytes);
  if (end - start !== needed) {
    throw corrupt(
      file,
      `tensor "${name}" has ${end - start} bytes, ${needed} needed for [${shape}]`,
    );
  }
  return { name, dtype, shape, start, end };
}

/** Tensors follow each other without overlap or gap and end with the file. */
function checkLayout(tensors: readonly SafetensorsTensor[], dataBytes: number, file: string): void {
  let at = 0;
  for (
    const { name, start, end } of [...tensors].sort((a, b) => a.start - b.start || a.end - b.end)
  ) {
    if (end > dataBytes) {
      throw corrupt(
        file,
        `${dataBytes} bytes of data found, ${end} expected, where tensor "${name}" ends`,
      );
    }
    if (start !== at) {
      throw corrupt(file, `tensor "${name}" begins at data byte ${start}, ${at} expected`);
    }
    at = end;
  }
  if (at !== dataBytes) {
    throw corrupt(file, `${dataBytes} bytes of data found, ${at} expected, where its tensors end`);
  }
}

const SafetensorsIndex = z.object({ weight_map: z.record(z.string(), z.string().min(1)) });

/**
 * Tensor names by file, as `model.safetensors.index.json` says.
 * @throws {AppError} `corrupt_model` when it is not an index or names a file outside its folder.
 */
export function parseSafetensorsIndex(text: string, file: string): ReadonlyMap<string, string[]> {
  const index = SafetensorsIndex.safeParse(parseJson(text, file));
  if (!index.success) {
    throw corrupt(file, "it has no weight_map, a file for each tensor expected", PUBLISHED);
  }
  const files = new Map<string, string[]>();
  for (const [tensor, part] of Object.entries(index.data.weight_map)) {
    if (!/^[^/\\]+\.safetensors$/.test(part)) {
      throw corrupt(file, `it names the file "${part}", a .safetensors file beside it expected`);
    }
    files.set(part, [...(files.get(part) ?? []), tensor]);
  }
  return files;
}

/**
 * The value of a JSON file.
 * @throws {AppError} `corrupt_model` when it is not JSON.
 */
export function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw corrupt(file, "it is not JSON, a JSON object expected");
  }
}

/** The architectures that our engines run, by the checkpoint's `model_type`; a GGUF's likewise. */
export const KNOWN_ARCHITECTURES: readonly string[] = ["llama", "mistral"];

/**
 * Refuses what no engine of ours runs.
 * @throws {AppError} `unsupported_model`, naming the known architectures.
 */
export function requireKnownArchitecture(architecture: string): void {
  if (KNOWN_ARCHITECTURES.includes(architecture)) return;
  throw new AppError(
    "unsupported_model",
    `Cannot run a model of architecture "${architecture}": ${
      KNOWN_ARCHITECTURES.join(" or ")
    } needed`,
    { hint: "choose a model of the Llama or Mistral family, such as SmolLM2: exo models add PATH" },
  );
}

/**
 * Bytes that keys and values of one token take over all layers, as f32: the widest type that an
 * engine keeps them in (activations are f32 on CPU), so that what fits by this fits everywhere.
 */
export function kvBytesPerToken(
  { layers, kvHeads, headDim }: { layers: number; kvHeads: number; headDim: number },
): number {
  return 2 * layers * kvHeads * headDim * Float32Array.BYTES_PER_ELEMENT;
}

const count = z.number().int().min(1);
const CheckpointConfig = z.object({
  model_type: z.string(),
  num_hidden_layers: count,
  hidden_size: count,
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  max_position_embeddings: count.nullish(),
  // What is wrong with these is told when the model is loaded.
  sliding_window: count.nullish().catch(undefined),
  layer_types: z.array(z.string()).nullish().catch(undefined),
  quantization: z.object({ bits: count }).nullish(),
  _name_or_path: z.string().nullish(),
});

const GenerationConfig = z.object({
  temperature: z.number().min(0).max(100).nullish().catch(undefined),
  top_p: z.number().gt(0).max(1).nullish().catch(undefined),
  top_k: z.number().int().min(0).nullish().catch(undefined),
  min_p: z.number().min(0).max(1).nullish().catch(undefined),
  repetition_penalty: SamplingParams.shape.repetitionPenalty.nullish().catch(undefined),
});

/** The sampling that a `generation_config.json` asks for; values out of range are left out. */
export function samplingFromGenerationConfig(json: unknown): SamplingParams {
  const { temperature, ...config } = GenerationConfig.catch({}).parse(json);
  const asked = Object.entries({
    temperature,
    topP: config.top_p,
    topK: config.top_k,
    minP: config.min_p,
    repetitionPenalty: config.repetition_penalty,
  });
  return SamplingParams.parse(
    Object.fromEntries(asked.filter(([, value]) => typeof value === "number")),
  );
}

/** What a checkpoint folder holds, as read from it. */
export interface CheckpointFacts {
  readonly modelId: ModelId;
  /** `config.json`, parsed. */
  readonly config: unknown;
  /** What messages call it. */
  readonly file?: string;
  /** `generation_config.json`, parsed, where there is one. */
  readonly generationConfig?: unknown;
  /** All weight files together. */
  readonly storageBytes: number;
  readonly license?: string;
}

/** The fields of a config that are missing or malformed, and what they hold. */
function wrongFields(config: unknown, { issues }: z.ZodError): string {
  const fields = issues.map(({ path }) => {
    const value = path.reduce<unknown>(
      (at, key) => (at as Record<PropertyKey, unknown>)[key],
      config,
    );
    return `${path.join(".")} is ${JSON.stringify(value) ?? "missing"}`;
  });
  return `its ${fields.join(", its ")}, a whole number from 1 on expected`;
}

/**
 * The card of a Hugging Face checkpoint folder.
 * @throws {AppError} `unsupported_model` for an architecture that no engine runs, `corrupt_model`
 * for a config that lacks what every model has.
 */
export function modelCardFromConfig(facts: CheckpointFacts): ModelCard {
  const type = z.object({ model_type: z.string() }).safeParse(facts.config);
  const { file = "config.json" } = facts;
  if (!type.success) {
    throw corrupt(
      file,
      `found ${show(facts.config)}, an object with a model_type expected`,
      PUBLISHED,
    );
  }
  requireKnownArchitecture(type.data.model_type);
  const parsed = CheckpointConfig.safeParse(facts.config);
  if (!parsed.success) throw corrupt(file, wrongFields(facts.config, parsed.error), PUBLISHED);
  const c = parsed.data;
  const kvHeads = c.num_key_value_heads ?? c.num_attention_heads;
  const headDim = c.head_dim ?? Math.floor(c.hidden_size / c.num_attention_heads);
  const sampling = samplingFromGenerationConfig(facts.generationConfig);
  const slides = !c.layer_types?.includes("full_attention");
  return ModelCard.parse({
    modelId: facts.modelId,
    storageSize: { inBytes: facts.storageBytes },
    nLayers: c.num_hidden_layers,
    hiddenSize: c.hidden_size,
    supportsTensor: true,
    numKeyValueHeads: kvHeads,
    tasks: ["TextGeneration"],
    backends: ["MlxMetal", "MlxCpu", "MlxCuda"],
    family: c.model_type,
    quantization: c.quantization ? `${c.quantization.bits}bit` : "",
    baseModel: c._name_or_path ?? "",
    contextLength: c.max_position_embeddings ?? 0,
    ...(c.sliding_window && slides ? { slidingWindow: c.sliding_window } : {}),
    architecture: c.model_type,
    kvBytesPerToken: kvBytesPerToken({ layers: c.num_hidden_layers, kvHeads, headDim }),
    ...(Object.keys(sampling).length > 0 ? { samplingDefaults: sampling } : {}),
    ...(facts.license === undefined ? {} : { license: facts.license }),
    isCustom: true,
  });
}
