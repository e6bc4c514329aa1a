import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import {
  parseJson,
  parseSafetensorsHeader,
  parseSafetensorsIndex,
  safetensorsHeaderBytes,
} from "../../core/safetensors.ts";
import { loadSafetensors, type Tensor } from "../../ffi/mod.ts";
import { fileNames, readStart, readTextIfAny } from "../text/files.ts";
import type { TokenizerSource } from "../text/tokenizer.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { readPart, type StoredTensor } from "./stored_tensor.ts";
import { tensorSource } from "./weight_source.ts";
import type { Quantization } from "./weights.ts";
import { FOLDER_WORDING } from "./wording.ts";

const JsonObject = z.record(z.string(), z.unknown());

const QuantizationJson = z.object({
  group_size: z.number().int().min(1),
  bits: z.number().int().min(1).max(8),
  mode: z.enum(["affine", "mxfp4", "mxfp8", "nvfp4"]).default("affine"),
}).transform(({ group_size, bits, mode }): Quantization => ({ groupSize: group_size, bits, mode }));

/** Ids in a config: one, several or none. */
const EosIds = z.object({
  eos_token_id: z.union([z.number().int(), z.array(z.number().int())]).nullish().catch(undefined),
}).catch({ eos_token_id: undefined });

/** Opens a Hugging Face folder. @throws {AppError} as {@linkcode openCheckpoint} does. */
export function openFolder(folder: string): Checkpoint {
  const config = needJson(folder, "config.json");
  const generationConfig = jsonIfAny(folder, "generation_config.json");
  const files = weightFiles(folder);
  const quantizationOf = quantizations(config);
  const parts = new Map([...files.values()].flatMap((tensors) => [...tensors]));
  return {
    config,
    generationConfig,
    tokenizer: readTokenizer(folder),
    eosIds: eosIds(generationConfig, config),
    quantizationOf,
    wording: FOLDER_WORDING,
    groupOf: (path) => parts.has(`${path}.scales`) ? quantizationOf(path)?.groupSize ?? 1 : 1,
    openWeights: (isPacked, cuts) =>
      tensorSource(openTensors(folder, files), {
        ...{ isPacked, quantizationOf, cuts },
        readPart: (name, cut) => readPart(parts.get(name), cut),
      }),
  };
}

/**
 * Tokenizer and chat template of a folder; the template may have a file of its own.
 * @throws {AppError} `load_failed` when there is no `tokenizer.json`.
 */
export function readTokenizer(folder: string): TokenizerSource {
  const config = jsonIfAny(folder, "tokenizer_config.json") ?? {};
  const template = readTextIfAny(`${folder}/chat_template.jinja`);
  return {
    tokenizer: needJson(folder, "tokenizer.json"),
    config: { ...config, ...(template === undefined ? {} : { chat_template: template }) },
  };
}

function jsonIfAny(folder: string, file: string): Record<string, unknown> | undefined {
  const text = readTextIfAny(`${folder}/${file}`);
  if (text === undefined) return undefined;
  const json = JsonObject.safeParse(parseJson(text, file));
  if (json.success) return json.data;
  throw new AppError(
    "corrupt_model",
    `Cannot read "${file}": it is another JSON value, an object needed`,
    {
      hint: `fetch "${file}" again as it was published`,
    },
  );
}

function needJson(folder: string, file: string): Record<string, unknown> {
  const json = jsonIfAny(folder, file);
  if (json) return json;
  throw new AppError(
    "load_failed",
    `Cannot load the model: its folder has no "${file}", one needed`,
    {
      hint: `fetch "${file}" into the folder; a tokenizer.model does not do in its place`,
    },
  );
}

/** The generation config's ends count, and the config's where it has none. */
function eosIds(...configs: readonly unknown[]): number[] {
  for (const config of configs) {
    const { eos_token_id: ids } = EosIds.parse(config);
    if (typeof ids === "number") return [ids];
    if (ids && ids.length > 0) return ids;
  }
  return [];
}

/** `quantization` of a config: one for all, and for some paths their own. */
function quantizations(config: Readonly<Record<string, unknown>>): Checkpoint["quantizationOf"] {
  const json = config["quantization"] ?? config["quantization_config"];
  if (json === undefined || json === null) return () => undefined;
  const all = QuantizationJson.safeParse(json);
  if (!all.success) {
    throw new AppError(
      "unsupported_model",
      `Cannot load the model: its quantization is ${
        JSON.stringify(json).slice(0, 120)
      }, MLX's own needed (group_size, bits, mode)`,
      { hint: "choose one by mlx-community, one in BF16, or a GGUF file of the model" },
    );
  }
  const own = JsonObject.parse(json);
  return (path) => QuantizationJson.safeParse(own[path]).data ?? all.data;
}

const INDEX_FILE = "model.safetensors.index.json";

/** What a folder's weights are read from. */
export function weightFileNames(folder: string): string[] {
  return [...promisedFiles(folder).keys()];
}

/** Each weight file with the tensors that an index promises. */
function promisedFiles(folder: string): ReadonlyMap<string, readonly string[] | undefined> {
  const index = readTextIfAny(`${folder}/${INDEX_FILE}`);
  return index === undefined
    ? new Map(unindexedFiles(folder).map((file) => [file, undefined]))
    : parseSafetensorsIndex(index, INDEX_FILE);
}

/** Each weight file with its tensors by name, headers checked. */
function weightFiles(folder: string): ReadonlyMap<string, ReadonlyMap<string, StoredTensor>> {
  const files = new Map<string, ReadonlyMap<string, StoredTensor>>();
  for (const [file, promised] of promisedFiles(folder)) {
    const names = storedTensors(`${folder}/${file}`, file);
    const missing = promised?.find((name) => !names.has(name));
    if (missing !== undefined) {
      throw new AppError(
        "corrupt_model",
        `Cannot load the model: "${file}" lacks the tensor "${missing}", needed by its index`,
        { hint: `fetch "${file}" and "${INDEX_FILE}" again, both from one place` },
      );
    }
    files.set(file, names);
  }
  return files;
}

const NO_WEIGHTS = "its folder has no model*.safetensors, one needed";

/** The weight files of a folder without an index, as mlx-lm takes them. */
function unindexedFiles(folder: string): string[] {
  const files = fileNames(folder).filter((name) => /^model.*\.safetensors$/.test(name)).sort();
  if (files.length > 0) return files;
  throw new AppError("load_failed", `Cannot load the model: ${NO_WEIGHTS}`, {
    hint: "fetch the model's *.safetensors into the folder; .bin and .pt (pickle) are never read",
  });
}

function storedTensors(path: string, file: string): ReadonlyMap<string, StoredTensor> {
  const { bytes: start, fileBytes } = readStart(path, 8);
  const { bytes } = readStart(path, safetensorsHeaderBytes(start, file, fileBytes));
  const header = parseSafetensorsHeader(bytes, file, fileBytes);
  return new Map(header.tensors.map(({ name, dtype, shape, start }) => [
    name,
    { path, name, dtype, shape, offset: header.dataOffset + start },
  ]));
}

function openTensors(
  folder: string,
  files: ReadonlyMap<string, ReadonlyMap<string, StoredTensor>>,
): Map<string, Tensor> {
  const weights = new Map<string, Tensor>();
  try {
    for (const [file, names] of files) {
      const { tensors } = loadSafetensors(`${folder}/${file}`);
      for (const [name, tensor] of tensors) weights.set(name, tensor);
      if (tensors.size === names.size) continue;
      throw new AppError(
        "load_failed",
        `Cannot load "${file}": MLX read ${tensors.size} of its ${names.size} tensors`,
        { hint: "choose a checkpoint in BF16, F16 or F32, or one that MLX has quantised" },
      );
    }
    return weights;
  } catch (error) {
    for (const tensor of weights.values()) tensor[Symbol.dispose]();
    throw error;
  }
}
