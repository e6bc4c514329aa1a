import { createHash } from "node:crypto";
import type { Stats } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { AppError } from "../core/errors.ts";
import {
  checkGgufTensors,
  GGUF_PREFIX_BYTES,
  type GgufHeader,
  modelCardFromGguf,
  parseGgufHeader,
} from "../core/gguf.ts";
import { ModelId } from "../core/ids.ts";
import type { ModelCard } from "../core/model_card.ts";
import {
  modelCardFromConfig,
  parseJson,
  parseSafetensorsHeader,
  parseSafetensorsIndex,
  safetensorsHeaderBytes,
} from "../core/safetensors.ts";
import { formatBytes, MIB } from "../core/units.ts";
import { systemReason } from "./system_error.ts";

/** Largest JSON file of a checkpoint: vocabularies of a million tokens fit. */
const TEXT_BYTES_MAX = 128 * MIB;

/** Characters of a model's name that its id keeps. */
const SLUG_CHARS_MAX = 64;

/** Hex digits of the header's hash in an id: enough to tell files of one name apart. */
const HASH_DIGITS = 8;

/** A model on this machine's disk. */
export interface LocalModel {
  readonly modelCard: ModelCard;
  readonly totalBytes: number;
}

/**
 * What a GGUF file or a checkpoint folder holds, its headers checked against the sizes of its
 * files. Weights are not read.
 * @throws {AppError} `not_found`, `corrupt_model` or `unsupported_model`.
 */
export async function inspectModel(path: string): Promise<LocalModel> {
  const info = await statOrThrow(path);
  if (info.isDirectory()) return await inspectFolder(path);
  if (extname(path).toLowerCase() === ".gguf") return await inspectGguf(path, info.size);
  const found = `found a file that ends in "${extname(path)}"`;
  throw new AppError(
    "unsupported_model",
    `Cannot add "${path}": ${found}, ".gguf" or a folder needed`,
    {
      hint: "pass a .gguf file, or a folder with config.json and *.safetensors",
    },
  );
}

async function inspectGguf(path: string, totalBytes: number): Promise<LocalModel> {
  const { header, headerBytes } = await readGgufHeader(path, totalBytes);
  checkGgufTensors(header, path, totalBytes);
  const name = header.metadata.get("general.name");
  const label = typeof name === "string" && name !== "" ? name : basename(path, extname(path));
  const modelId = localModelId(label, [headerBytes, String(totalBytes)]);
  const modelCard = modelCardFromGguf(header, { modelId, file: path, fileBytes: totalBytes });
  return { modelCard, totalBytes };
}

async function readGgufHeader(
  path: string,
  fileBytes: number,
): Promise<{ header: GgufHeader; headerBytes: Uint8Array }> {
  for (let bytes = GGUF_PREFIX_BYTES;; bytes *= 4) {
    const prefix = await readStart(path, Math.min(bytes, fileBytes));
    const header = parseGgufHeader(prefix, path, fileBytes);
    if (header) return { header, headerBytes: prefix.subarray(0, header.dataOffset) };
  }
}

async function inspectFolder(path: string): Promise<LocalModel> {
  const config = await readText(join(path, "config.json"));
  if (config === undefined) {
    throw new AppError(
      "unsupported_model",
      `Cannot add "${path}": found no config.json, one needed`,
      {
        hint: "pass a .gguf file, or a folder with config.json and *.safetensors",
      },
    );
  }
  const parts = await weightFiles(path);
  let totalBytes = 0;
  let tensorCount = 0;
  const hashed: (string | Uint8Array)[] = [config];
  for (const part of parts) {
    const file = join(path, part);
    const info = await statOrThrow(file).catch((cause) => {
      throw incomplete(path, part, cause);
    });
    const size = info.isFile() ? info.size : 0;
    const start = await readStart(file, Math.min(size, 8));
    const header = await readStart(file, safetensorsHeaderBytes(start, file, size));
    tensorCount += parseSafetensorsHeader(header, file, size).tensors.length;
    hashed.push(header, String(size));
    totalBytes += size;
  }
  if (tensorCount === 0) throw withoutTensors(path);
  const tokenizer = await readText(join(path, "tokenizer.json"));
  if (tokenizer === undefined) throw incomplete(path, "tokenizer.json");
  hashed.push(tokenizer);
  const generation = await readText(join(path, "generation_config.json"));
  const modelCard = modelCardFromConfig({
    modelId: localModelId(basename(path), hashed),
    config: parseJson(config, join(path, "config.json")),
    file: join(path, "config.json"),
    storageBytes: totalBytes,
    ...(generation === undefined
      ? {}
      : { generationConfig: parseJson(generation, join(path, "generation_config.json")) }),
  });
  return { modelCard, totalBytes };
}

function withoutTensors(path: string): AppError {
  return new AppError("corrupt_model", `Cannot add "${path}": found 0 tensors, 1 or more needed`, {
    hint: "fetch the safetensors files of the folder again, as they were published",
  });
}

/** The refusal of a folder that lacks a file. */
function incomplete(path: string, file: string, cause?: unknown): AppError {
  return new AppError("corrupt_model", `Cannot add "${path}": found no "${file}", one needed`, {
    hint: `its download is incomplete; fetch "${file}" into the folder too`,
    cause,
  });
}

/** The safetensors files of a folder: those that its index names, else the one that it has. */
async function weightFiles(path: string): Promise<string[]> {
  const indexFile = join(path, "model.safetensors.index.json");
  const index = await readText(indexFile);
  if (index !== undefined) return [...parseSafetensorsIndex(index, indexFile).keys()].sort();
  const names = (await readdir(path)).filter((name) => /^model.*\.safetensors$/.test(name));
  if (names.length > 0) return names.sort();
  throw new AppError(
    "unsupported_model",
    `Cannot add "${path}": found no model*.safetensors, one needed`,
    {
      hint: "fetch the model's *.safetensors into the folder; .bin and .pt (pickle) are never read",
    },
  );
}

/** `local/<slug>-<8 hex>`: the hash is over headers and sizes, never over the weights. */
function localModelId(label: string, hashed: readonly (string | Uint8Array)[]): ModelId {
  const slug = label.toLowerCase().replace(/[^a-z0-9.]+/g, "-").replace(/^-+|-+$/g, "")
    .slice(0, SLUG_CHARS_MAX) || "model";
  const hash = createHash("sha256");
  for (const part of hashed) hash.update(part);
  return ModelId.parse(`local/${slug}-${hash.digest("hex").slice(0, HASH_DIGITS)}`);
}

/** Size of a regular file, or that it is a folder; a pipe or a device would be read for ever. */
async function statOrThrow(path: string): Promise<Stats> {
  let info: Stats;
  try {
    info = await stat(path);
  } catch (cause) {
    throw unreadable(path, cause);
  }
  if (info.isFile() || info.isDirectory()) return info;
  throw new AppError(
    "unsupported_model",
    `Cannot read "${path}": found a device or pipe, a file or folder needed`,
    {
      hint: "pass a .gguf file, or a folder with config.json and *.safetensors",
    },
  );
}

function unreadable(path: string, cause: unknown): AppError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  if (code === "ENOENT" || code === "ENOTDIR") {
    return new AppError(
      "not_found",
      `Cannot read "${path}": there is no such file or folder, one needed`,
      {
        hint: `correct the path; on the machine of the node, this shows what is there: ls ${
          dirname(path)
        }`,
        cause,
      },
    );
  }
  return new AppError("not_found", `Cannot read "${path}": ${systemReason(cause)}`, {
    hint: code === "EACCES"
      ? `let the user who runs the node read it: chmod -R a+rX ${path}`
      : "copy it to a disk that the node can read, and name that path",
    cause,
  });
}

async function readStart(path: string, bytes: number): Promise<Uint8Array> {
  try {
    using file = await Deno.open(path);
    const buffer = new Uint8Array(bytes);
    let at = 0;
    while (at < bytes) {
      const read = await file.read(buffer.subarray(at));
      if (read === null) break;
      at += read;
    }
    return buffer.subarray(0, at);
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

/** A text file of a checkpoint; undefined when there is none. */
async function readText(path: string): Promise<string | undefined> {
  let info: Stats;
  try {
    info = await stat(path);
  } catch {
    return undefined;
  }
  if (!info.isFile() || info.size > TEXT_BYTES_MAX) {
    const found = info.isFile() ? `it has ${formatBytes(info.size)}` : "it is no file";
    const needed = `a file of ${formatBytes(TEXT_BYTES_MAX)} at most needed`;
    throw new AppError("corrupt_model", `Cannot read "${path}": ${found}, ${needed}`, {
      hint: `fetch "${basename(path)}" again as it was published`,
    });
  }
  try {
    return await Deno.readTextFile(path);
  } catch (cause) {
    throw unreadable(path, cause);
  }
}
