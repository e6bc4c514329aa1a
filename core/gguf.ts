import { AppError } from "./errors.ts";
import type { ModelId } from "./ids.ts";
import { ModelCard } from "./model_card.ts";
import { kvBytesPerToken, requireKnownArchitecture } from "./safetensors.ts";

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

/**
 * The types that MLX 0.32.4 loads to the values which llama.cpp gives them, as
 * `tests/golden/parity/ggml-types.json` shows. It refuses most others, drops MXFP4 and TQ without a
 * word, and decodes Q4_K wrongly (every second group of 32). Source of the blocks: ggml-common.h.
 */
const LOADABLE: ReadonlyMap<string, GgmlBlock> = new Map([
  ["F32", { values: 1, bytes: 4 }],
  ["F16", { values: 1, bytes: 2 }],
  ["BF16", { values: 1, bytes: 2 }],
  ["Q4_0", { values: 32, bytes: 18 }],
  ["Q4_1", { values: 32, bytes: 20 }],
  ["Q8_0", { values: 32, bytes: 34 }],
  ["Q2_K", { values: 256, bytes: 84 }],
  ["Q6_K", { values: 256, bytes: 210 }],
]);

/** Names of the GGML types that {@linkcode checkGgufTensors} lets pass. */
export const LOADABLE_GGML_TYPES: readonly string[] = [...LOADABLE.keys()];

/** A value of a GGUF's metadata; 64-bit integers become the nearest number. */
export type GgufValue = number | string | boolean | readonly GgufValue[];

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
const ARRAY_LENGTH_MAX = 16_777_216;
const STRING_BYTES_MAX = 16_777_216;
const DIMENSIONS_MAX = 4;
const NESTING_MAX = 3;
const ALIGNMENT_DEFAULT = 32;

/** Bytes to try first with {@linkcode parseGgufHeader}; a vocabulary mostly fits. */
export const GGUF_PREFIX_BYTES = 4 * 1024 * 1024;

function corrupt(file: string, found: string): AppError {
  return new AppError("corrupt_model", `Cannot read "${file}": ${found}`, {
    hint: "The file is damaged or its download is incomplete; fetch it again",
  });
}

/** Raised inside the parser alone: the bytes at hand end before the header does. */
class ShortRead extends Error {}

/** Reads little-endian values one after another. */
class Cursor {
  at = 0;
  readonly #view: DataView;
  readonly #text = new TextDecoder();

  constructor(readonly bytes: Uint8Array, readonly file: string) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Moves over `count` bytes; returns where they begin. */
  skip(count: number): number {
    const start = this.at;
    if (start + count > this.bytes.length) throw new ShortRead();
    this.at += count;
    return start;
  }

  u32(): number {
    return this.#view.getUint32(this.skip(4), true);
  }

  /** A u64 that counts or locates something, at most `max`. */
  size(max: number, what: string): number {
    const value = this.#view.getBigUint64(this.skip(8), true);
    if (value > BigInt(max)) {
      throw corrupt(this.file, `${what} is ${value}, at most ${max} expected`);
    }
    return Number(value);
  }

  string(): string {
    const bytes = this.size(STRING_BYTES_MAX, "the length of a string");
    const start = this.skip(bytes);
    return this.#text.decode(this.bytes.subarray(start, start + bytes));
  }

  value(type: number, depth = 0): GgufValue {
    const view = this.#view;
    switch (type) {
      case 0:
        return view.getUint8(this.skip(1));
      case 1:
        return view.getInt8(this.skip(1));
      case 2:
        return view.getUint16(this.skip(2), true);
      case 3:
        return view.getInt16(this.skip(2), true);
      case 4:
        return view.getUint32(this.skip(4), true);
      case 5:
        return view.getInt32(this.skip(4), true);
      case 6:
        return view.getFloat32(this.skip(4), true);
      case 7:
        return view.getUint8(this.skip(1)) !== 0;
      case 8:
        return this.string();
      case 9:
        return this.array(depth);
      case 10:
        return Number(view.getBigUint64(this.skip(8), true));
      case 11:
        return Number(view.getBigInt64(this.skip(8), true));
      case 12:
        return view.getFloat64(this.skip(8), true);
      default:
        throw corrupt(this.file, `a metadata value has the unknown type ${type}`);
    }
  }

  array(depth: number): GgufValue {
    if (depth >= NESTING_MAX) throw corrupt(this.file, "metadata arrays are nested too deep");
    const type = this.u32();
    const length = this.size(ARRAY_LENGTH_MAX, "the length of a metadata array");
    // One at a time: a short read must not first reserve what the length claims.
    const values: GgufValue[] = [];
    for (let i = 0; i < length; i++) values.push(this.value(type, depth + 1));
    return values;
  }
}

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
    return parse(new Cursor(prefix, file));
  } catch (error) {
    if (!(error instanceof ShortRead)) throw error;
    if (prefix.length < fileBytes) return undefined;
    throw corrupt(file, `it ends inside its header, after ${fileBytes} bytes`);
  }
}

function parse(cursor: Cursor): GgufHeader {
  const { file } = cursor;
  const magic = String.fromCharCode(...cursor.bytes.subarray(0, 4));
  cursor.skip(4);
  if (magic !== "GGUF") throw corrupt(file, "it does not begin with GGUF");
  const version = cursor.u32();
  if (version !== 2 && version !== 3) {
    throw new AppError("unsupported_model", `Cannot read "${file}": GGUF version ${version}`, {
      hint: "Little-endian files of version 2 or 3 are read",
    });
  }
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
    throw corrupt(file, `general.alignment is ${alignment}, a power of two expected`);
  }
  const dataOffset = Math.ceil(cursor.at / alignment) * alignment;
  return { version, metadata, tensors, dataOffset, alignment };
}

function tensorOf(cursor: Cursor): GgufTensor {
  const name = cursor.string();
  const dimensions = cursor.u32();
  if (dimensions < 1 || dimensions > DIMENSIONS_MAX) {
    throw corrupt(cursor.file, `tensor "${name}" has ${dimensions} dimensions`);
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
      hint: "Join the parts with llama.cpp's llama-gguf-split --merge",
    });
  }
  const refused = new Set(
    header.tensors.map(({ type }) => type).filter((type) => !LOADABLE_GGML_TYPES.includes(type)),
  );
  if (refused.size > 0) {
    throw new AppError(
      "unsupported_model",
      `Cannot load "${file}": it has tensors of type ${[...refused].join(", ")}, supported are ${
        LOADABLE_GGML_TYPES.join(", ")
      }`,
      { hint: "Choose a file quantised as Q4_0, Q4_1 or Q8_0" },
    );
  }
  const dataBytes = fileBytes - header.dataOffset;
  let [last, at] = ["", 0];
  for (const tensor of [...header.tensors].sort((a, b) => a.offset - b.offset)) {
    const { name, shape, offset, bytes } = tensor;
    if (bytes === undefined || !Number.isSafeInteger(bytes) || bytes === 0) {
      throw corrupt(file, `tensor "${name}" of type ${tensor.type} has the shape [${shape}]`);
    }
    if (offset % header.alignment !== 0) {
      throw corrupt(file, `tensor "${name}" begins at data byte ${offset}, which is not aligned`);
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
  const names = new Set(header.tensors.map(({ name }) => name));
  if (names.size !== header.tensors.length) throw corrupt(file, "two tensors share a name");
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
    throw corrupt(this.file, `its metadata has no usable ${key}`);
  }

  /** @throws {AppError} `corrupt_model` when the file does not name one. */
  get architecture(): string {
    const name = this.string("general.architecture");
    if (name === undefined) throw corrupt(this.file, "its metadata has no general.architecture");
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
