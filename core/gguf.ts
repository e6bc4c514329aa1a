import { corrupt } from "./corrupt_file.ts";
import { AppError } from "./errors.ts";
import { GgufCursor, type GgufValue, ShortRead } from "./gguf_cursor.ts";
import { GgufMetadata, show } from "./gguf_metadata.ts";
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
    if (fileBytes === 0) throw corrupt(file, "found 0 bytes, a GGUF file expected");
    throw corrupt(file, `it ends after ${fileBytes} bytes, inside its header, all of it expected`);
  }
}

/** A big-endian file shows its version in the upper byte. */
function checkVersion(version: number, file: string): void {
  if (VERSIONS.includes(version)) return;
  const found = VERSIONS.includes(version / 2 ** 24)
    ? "it is big-endian, little-endian needed"
    : `it is of GGUF version ${version}, ${VERSIONS.join(" or ")} needed`;
  throw new AppError("unsupported_model", `Cannot read "${file}": ${found}`, {
    hint: "fetch a newer file of the model, or make one with llama.cpp's convert_hf_to_gguf.py",
  });
}

/** What to do about files that are no GGUF from their first byte on. */
const WEB_PAGE = "this is a page about the model; fetch the .gguf file that it links to";
const OTHER_FORMAT =
  "fetch the model's .gguf file, or make one with llama.cpp's convert_hf_to_gguf.py";

function parse(cursor: GgufCursor): GgufHeader {
  const { file } = cursor;
  const magic = String.fromCharCode(...cursor.bytes.subarray(0, 4));
  cursor.skip(4);
  if (magic !== "GGUF") {
    const found = `it begins with ${show(magic)}, "GGUF" expected`;
    throw corrupt(file, found, magic.startsWith("<") ? WEB_PAGE : OTHER_FORMAT);
  }
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
  for (let i = 0; i < tensorCount; i++) {
    tensors.push(tensorOf(cursor, `tensor ${i + 1} of ${tensorCount}`));
  }
  const alignment = metadata.get("general.alignment") ?? ALIGNMENT_DEFAULT;
  if (typeof alignment !== "number" || alignment < 1 || (alignment & (alignment - 1)) !== 0) {
    throw corrupt(file, `general.alignment is ${show(alignment)}, a power of two expected`);
  }
  const dataOffset = Math.ceil(cursor.at / alignment) * alignment;
  return { version, metadata, tensors, dataOffset, alignment };
}

/** The tensor that the header tells of next; `which` is the number that it has there. */
function tensorOf(cursor: GgufCursor, which: string): GgufTensor {
  const name = cursor.string();
  if (name === "") throw corrupt(cursor.file, `${which} has no name, one expected for each`);
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
  requireWhole(header, file);
  requireLoadable(header, file);
  checkPlaces(header, file, fileBytes - header.dataOffset);
  const names = header.tensors.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    throw corrupt(file, `two tensors have the name "${twice}", one of each expected`);
  }
}

function requireWhole({ metadata }: GgufHeader, file: string): void {
  const parts = metadata.get("split.count");
  if (typeof parts !== "number" || parts <= 1) return;
  throw new AppError(
    "unsupported_model",
    `Cannot load "${file}": it is one of ${parts} parts, one whole file needed`,
    { hint: "join them with llama.cpp: llama-gguf-split --merge FIRST_PART.gguf WHOLE.gguf" },
  );
}

function requireLoadable({ tensors }: GgufHeader, file: string): void {
  const refused = new Set(tensors.map(({ type }) => type).filter((type) => !LOADABLE.has(type)));
  if (refused.size === 0) return;
  const found = [...refused].map((type) => type.replace(/^type /, "")).join(", ");
  throw new AppError(
    "unsupported_model",
    `Cannot load "${file}": it has tensors of type ${found}, one of ${
      LOADABLE_GGML_TYPES.join(", ")
    } needed`,
    { hint: "choose a file quantised as Q4_K_M, Q6_K or Q8_0" },
  );
}

/** Each tensor begins where the file may have one, and ends before the next one and the data do. */
function checkPlaces(
  { tensors, alignment }: GgufHeader,
  file: string,
  dataBytes: number,
): void {
  let [last, at] = ["", 0];
  for (const tensor of [...tensors].sort((a, b) => a.offset - b.offset)) {
    const { name, offset } = tensor;
    const end = offset + wholeBytes(tensor, file);
    if (offset % alignment !== 0) {
      const needed = `a multiple of ${alignment} expected`;
      throw corrupt(file, `tensor "${name}" begins at data byte ${offset}, ${needed}`);
    }
    if (offset < at) {
      const needed = `${at} expected, where "${last}" ends`;
      throw corrupt(file, `tensor "${name}" begins at data byte ${offset}, ${needed}`);
    }
    if (end > dataBytes) {
      const found = `${Math.max(0, dataBytes)} bytes of data found`;
      throw corrupt(file, `${found}, ${end} expected, where tensor "${name}" ends`);
    }
    [last, at] = [name, end];
  }
}

/** The bytes of a tensor, which are a whole number of blocks. */
function wholeBytes({ name, shape, type, bytes }: GgufTensor, file: string): number {
  if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  const block = LOADABLE.get(type)?.values;
  const needed = block === undefined || block === 1
    ? "at least 1 value expected"
    : `blocks of ${block} values expected`;
  throw corrupt(file, `tensor "${name}" of type ${type} has the shape [${shape}], ${needed}`);
}

/** What to do about a file that holds metadata alone. */
const VOCABULARY = "it may be a vocabulary alone; fetch the file that has the model's weights";

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
  if (header.tensors.length === 0) {
    throw corrupt(file, "it has 0 tensors, those of a model expected", VOCABULARY);
  }
  const { kvHeads, headDim } = metadata;
  const layers = metadata.count(`${architecture}.block_count`);
  const license = metadata.string("general.license");
  return ModelCard.parse({
    modelId,
    storageSize: { inBytes: fileBytes },
    nLayers: layers,
    hiddenSize: metadata.count(`${architecture}.embedding_length`),
    supportsTensor: true,
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
