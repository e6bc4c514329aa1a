import { AppError } from "./errors.ts";
import { corrupt, GgufCursor, type GgufValue, ShortRead } from "./gguf_cursor.ts";
import type { ModelId } from "./ids.ts";
import { ModelCard } from "./model_card.ts";
import { kvBytesPerToken, requireKnownArchitecture } from "./safetensors.ts";

export type { GgufValue };

/** GGML types by their number in a file; a dash where none has it. Source: ggml.h (2026-06). */
const GGML_TYPES: readonly string[] = (
  "F32 F16 Q4_0 Q4_1 - - Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS " +
  "IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 - - - TQ1_0 TQ2_0 " +
  "- - - MXFP4"
).split(" ");

/** How tensors of one GGML type lie in a file: blocks of `values` values in `bytes` bytes each. */
interface GgmlBlock {
  readonly values: number;
  readonly bytes: number;
}

/** The types whose tensors are read, on a CPU at least. Source of the blocks: ggml-common.h. */
const LOADABLE: ReadonlyMap<string, GgmlBlock> = new Map([
  ["F32", { values: 1, bytes: 4 }],
  ["F16", { values: 1, bytes: 2 }],
  ["BF16", { values: 1, bytes: 2 }],
  ["Q4_0", { values: 32, bytes: 18 }],
  ["Q4_1", { values: 32, bytes: 20 }],
  ["Q5_0", { values: 32, bytes: 22 }],
  ["Q5_1", { values: 32, bytes: 24 }],
  ["Q8_0", { values: 32, bytes: 34 }],
  ["Q2_K", { values: 256, bytes: 84 }],
  ["Q3_K", { values: 256, bytes: 110 }],
  ["Q4_K", { values: 256, bytes: 144 }],
  ["Q5_K", { values: 256, bytes: 176 }],
  ["Q6_K", { values: 256, bytes: 210 }],
]);

/** Names of the GGML types that {@linkcode checkGgufTensors} lets pass. */
export const LOADABLE_GGML_TYPES: readonly string[] = [...LOADABLE.keys()];

/** One tensor of a GGUF; its offset counts from the start of the data. */
export interface GgufTensor {
  readonly name: string;
  /** Innermost length first, as the file has it. */
  readonly shape: readonly number[];
  /** Such as `Q4_1`; `type 99` for a number that we do not know. */
  readonly type: string;
  readonly offset: number;
  /** Undefined for a type that we do not load. */
  readonly bytes: number | undefined;
}

/** What a GGUF file says about itself. */
export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensor[];
  /** Where the tensors' data begin, in bytes from the start of the file. */
  readonly dataOffset: number;
  readonly alignment: number;
}

/** Limits on what a header may ask us to hold. */
const ENTRIES_MAX = 1_000_000;
const DIMENSIONS_MAX = 4;
const ALIGNMENT_DEFAULT = 32;

/** The versions of the format that are read. */
const VERSIONS: readonly number[] = [2, 3];

/** Longest piece of a wrong value that a message repeats. */
const VALUE_CHARS_MAX = 60;

/** Bytes to try first with {@linkcode parseGgufHeader}; a vocabulary mostly fits. */
export const GGUF_PREFIX_BYTES = 4 * 1024 * 1024;

/**
 * The header in the first bytes of a GGUF file; undefined when it goes on beyond them, and a longer
 * prefix is needed. Says nothing about the tensors yet: {@linkcode checkGgufTensors} does.
 * Source: ggml's gguf.md, versions 2 and 3.
 * @throws {AppError} `corrupt_model` for what is no GGUF or ends inside its header.
 */
export function parseGgufHeader(
  prefix: Uint8Array,
  file: string,
  fileBytes: number,
): GgufHeader | undefined {
  try {
    return parse(new GgufCursor(prefix, file));
  } catch (error) {
    if (!(error instanceof ShortRead)) throw error;
    if (prefix.length < fileBytes) return undefined;
    if (fileBytes === 0) throw corrupt(file, "it is empty, a GGUF file expected");
    throw corrupt(file, `it ends inside its header, after ${fileBytes} bytes`);
  }
}

/** A big-endian file shows its version in the upper byte. */
function checkVersion(version: number, file: string): void {
  if (VERSIONS.includes(version)) return;
  const found = VERSIONS.includes(version / 2 ** 24)
    ? "it is big-endian, little-endian needed"
    : `it is of GGUF version ${version}, ${VERSIONS.join(" or ")} needed`;
  throw new AppError("unsupported_model", `Cannot read "${file}": ${found}`, {
    hint: "fetch another file of the model, or convert it again with llama.cpp",
  });
}

/** A value as a message shows it. */
function show(value: unknown): string {
  return value === undefined ? "missing" : JSON.stringify(value).slice(0, VALUE_CHARS_MAX);
}

function parse(cursor: GgufCursor): GgufHeader {
  const { file } = cursor;
  const magic = String.fromCharCode(...cursor.bytes.subarray(0, 4));
  cursor.skip(4);
  if (magic !== "GGUF") throw corrupt(file, `it begins with ${show(magic)}, "GGUF" expected`);
  const version = cursor.u32();
  checkVersion(version, file);
  const tensorCount = cursor.size(ENTRIES_MAX, "the tensor count");
  const entryCount = cursor.size(ENTRIES_MAX, "the metadata count");
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < entryCount; i++) {
    const key = cursor.string();
    metadata.set(key, cursor.value(cursor.u32()));
  }
  const tensors: GgufTensor[] = [];
  for (let i = 0; i < tensorCount; i++) tensors.push(tensorOf(cursor));
  const alignment = metadata.get("general.alignment") ?? ALIGNMENT_DEFAULT;
  if (typeof alignment !== "number" || alignment < 1 || (alignment & (alignment - 1)) !== 0) {
    throw corrupt(file, `general.alignment is ${show(alignment)}, a power of two expected`);
  }
  const dataOffset = Math.ceil(cursor.at / alignment) * alignment;
  return { version, metadata, tensors, dataOffset, alignment };
}

function tensorOf(cursor: GgufCursor): GgufTensor {
  const name = cursor.string();
  const dimensions = cursor.u32();
  if (dimensions < 1 || dimensions > DIMENSIONS_MAX) {
    const needed = `1 to ${DIMENSIONS_MAX} expected`;
    throw corrupt(cursor.file, `tensor "${name}" has ${dimensions} dimensions, ${needed}`);
  }
  const shape: number[] = [];
  for (let i = 0; i < dimensions; i++) {
    shape.push(cursor.size(2 ** 40, `a length of tensor "${name}"`));
  }
  const number = cursor.u32();
  const offset = cursor.size(Number.MAX_SAFE_INTEGER, `the offset of tensor "${name}"`);
  const named = GGML_TYPES[number] ?? "-";
  const type = named === "-" ? `type ${number}` : named;
  const block = LOADABLE.get(type);
  const count = shape.reduce((product, n) => product * n, 1);
  return { name, shape, type, offset, bytes: block && count / block.values * block.bytes };
}

/**
 * Checks that every tensor can be loaded and lies in the file, apart from the others.
 * @throws {AppError} `unsupported_model` naming a type that MLX cannot read, `corrupt_model` naming
 * the tensor that is cut off, misplaced or misshapen.
 */
export function checkGgufTensors(header: GgufHeader, file: string, fileBytes: number): void {
  const parts = header.metadata.get("split.count");
  if (typeof parts === "number" && parts > 1) {
    throw new AppError("unsupported_model", `Cannot load "${file}": it is one of ${parts} parts`, {
      hint: "join the parts with llama.cpp's llama-gguf-split --merge",
    });
  }
  const refused = new Set(
    header.tensors.map(({ type }) => type).filter((type) => !LOADABLE_GGML_TYPES.includes(type)),
  );
  if (refused.size > 0) {
    throw new AppError(
      "unsupported_model",
      `Cannot load "${file}": it has tensors of type ${
        [...refused].map((type) => type.replace(/^type /, "")).join(", ")
      }, supported are ${LOADABLE_GGML_TYPES.join(", ")}`,
      { hint: "choose a file quantised as Q4_K_M, Q6_K or Q8_0" },
    );
  }
  const dataBytes = fileBytes - header.dataOffset;
  let [last, at] = ["", 0];
  for (const tensor of [...header.tensors].sort((a, b) => a.offset - b.offset)) {
    const { name, shape, offset, bytes } = tensor;
    if (bytes === undefined || !Number.isSafeInteger(bytes) || bytes === 0) {
      const block = LOADABLE.get(tensor.type)?.values ?? 1;
      const needed = block === 1
        ? "at least 1 value expected"
        : `blocks of ${block} values expected`;
      const found = `tensor "${name}" of type ${tensor.type} has the shape [${shape}]`;
      throw corrupt(file, `${found}, ${needed}`);
    }
    if (offset % header.alignment !== 0) {
      const needed = `a multiple of ${header.alignment} expected`;
      throw corrupt(file, `tensor "${name}" begins at data byte ${offset}, ${needed}`);
    }
    if (offset < at) throw corrupt(file, `tensors "${last}" and "${name}" overlap`);
    if (offset + bytes > dataBytes) {
      throw corrupt(
        file,
        `tensor "${name}" ends at data byte ${offset + bytes}, ${
          Math.max(0, dataBytes)
        } bytes found`,
      );
    }
    [last, at] = [name, offset + bytes];
  }
  const names = header.tensors.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw corrupt(file, `two tensors have the name "${twice}"`);
}

/** Typed look-ups in a GGUF's metadata; a value of another type is as good as none. */
export class GgufMetadata {
  constructor(readonly header: GgufHeader, readonly file: string) {}

  string(key: string): string | undefined {
    const value = this.header.metadata.get(key);
    return typeof value === "string" ? value : undefined;
  }

  number(key: string): number | undefined {
    const value = this.header.metadata.get(key);
    return typeof value === "number" ? value : undefined;
  }

  boolean(key: string): boolean | undefined {
    const value = this.header.metadata.get(key);
    return typeof value === "boolean" ? value : undefined;
  }

  strings(key: string): readonly string[] | undefined {
    const value = this.header.metadata.get(key);
    return Array.isArray(value) && value.every((v) => typeof v === "string") ? value : undefined;
  }

  numbers(key: string): readonly number[] | undefined {
    const value = this.header.metadata.get(key);
    return Array.isArray(value) && value.every((v) => typeof v === "number") ? value : undefined;
  }

  /** @throws {AppError} `corrupt_model` when there is none. */
  count(key: string): number {
    const value = this.number(key);
    if (value !== undefined && Number.isInteger(value) && value > 0) return value;
    const found = show(this.header.metadata.get(key));
    throw corrupt(this.file, `its ${key} is ${found}, a whole number from 1 on expected`);
  }

  /** @throws {AppError} `corrupt_model` when the file does not name one. */
  get architecture(): string {
    const name = this.string("general.architecture");
    if (name === undefined) {
      throw corrupt(this.file, "its metadata has no general.architecture, a name expected");
    }
    return name;
  }

  /** Length of one head's keys. */
  get headDim(): number {
    const arch = this.architecture;
    return this.number(`${arch}.attention.key_length`) ??
      this.number(`${arch}.rope.dimension_count`) ??
      Math.floor(
        this.count(`${arch}.embedding_length`) / this.count(`${arch}.attention.head_count`),
      );
  }

  get kvHeads(): number {
    const arch = this.architecture;
    return this.number(`${arch}.attention.head_count_kv`) ??
      this.count(`${arch}.attention.head_count`);
  }
}

/** The type that holds most of the bytes, as a label; empty for unquantised weights. */
function quantizationOf(tensors: readonly GgufTensor[]): string {
  const bytes = new Map<string, number>();
  for (const tensor of tensors) {
    if (!tensor.name.startsWith("blk.")) continue;
    bytes.set(tensor.type, (bytes.get(tensor.type) ?? 0) + (tensor.bytes ?? 0));
  }
  const [most] = [...bytes].sort(([, a], [, b]) => b - a);
  return most === undefined || ["F32", "F16", "BF16"].includes(most[0]) ? "" : most[0];
}

/**
 * The card of a GGUF file.
 * @throws {AppError} `unsupported_model` for an architecture that no engine runs, `corrupt_model`
 * for metadata that lack what every model has.
 */
export function modelCardFromGguf(
  header: GgufHeader,
  { modelId, file, fileBytes }: { modelId: ModelId; file: string; fileBytes: number },
): ModelCard {
  const metadata = new GgufMetadata(header, file);
  const { architecture } = metadata;
  requireKnownArchitecture(architecture);
  if (header.tensors.length === 0) throw corrupt(file, "it has 0 tensors, a model's expected");
  const { kvHeads, headDim } = metadata;
  const layers = metadata.count(`${architecture}.block_count`);
  const license = metadata.string("general.license");
  return ModelCard.parse({
    modelId,
    storageSize: { inBytes: fileBytes },
    nLayers: layers,
    hiddenSize: metadata.count(`${architecture}.embedding_length`),
    supportsTensor: false,
    numKeyValueHeads: kvHeads,
    tasks: ["TextGeneration"],
    backends: ["MlxMetal", "MlxCpu", "MlxCuda"],
    family: metadata.string("general.basename")?.toLowerCase() ?? architecture,
    quantization: quantizationOf(header.tensors),
    baseModel: metadata.string("general.name") ?? "",
    contextLength: metadata.number(`${architecture}.context_length`) ?? 0,
    architecture,
    kvBytesPerToken: kvBytesPerToken({ layers, kvHeads, headDim }),
    ...(license === undefined ? {} : { license }),
    isCustom: true,
  });
}
