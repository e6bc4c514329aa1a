import { AppError } from "../../core/errors.ts";
import type { GgufHeader, GgufTensor } from "../../core/gguf.ts";
import { GgufMetadata } from "../../core/gguf_metadata.ts";
import { type GgufMatrix, GgufPacker, loadGguf, Scope, type Tensor } from "../../ffi/mod.ts";
import { fileName } from "../text/files.ts";
import { configFromGguf, readGgufHeader } from "../text/gguf_file.ts";
import { eosIdsFromGguf, tokenizerFromGguf } from "../text/gguf_tokenizer.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { ggufWording, huggingFaceName } from "./gguf_names.ts";
import { readVector } from "./gguf_vector.ts";
import type { MatrixShape } from "./layers.ts";
import type { Cut, WeightCuts } from "./weight_cuts.ts";
import { tensorSource, type WeightEntry, type WeightSource } from "./weight_source.ts";
import type { Quantization } from "./weights.ts";

/** Weights that share a scale in Q4_0, Q4_1 and Q8_0. */
const GGUF_GROUP = 32;

/** Weights that share a scale, in the types of which MLX keeps that, and in all as we pack them. */
const GROUPS_OF_MLX = { Q4_0: GGUF_GROUP, Q4_1: GGUF_GROUP, Q8_0: GGUF_GROUP };
const GROUPS_PACKED = {
  ...{ ...GROUPS_OF_MLX, Q5_0: 32, Q5_1: 32 },
  ...{ Q2_K: 16, Q3_K: 16, Q4_K: 32, Q5_K: 32, Q6_K: 16 },
};

/** Opens a GGUF file. @throws {AppError} as {@linkcode openCheckpoint} does. */
export function openGguf(path: string): Checkpoint {
  const file = fileName(path);
  const header = readGgufHeader(path);
  const metadata = new GgufMetadata(header, file);
  const config = configFromGguf(header, file);
  // MLX gives a quantised matrix as a triplet; which of the widths it has, its type tells.
  const types = new Map(header.tensors.map(({ name, type }) => [
    huggingFaceName(name).replace(/\.weight$/, ""),
    type,
  ]));
  const quantizationOf = (part: string): Quantization => ({
    groupSize: GGUF_GROUP,
    bits: types.get(part) === "Q8_0" ? 8 : 4,
    mode: "affine",
  });
  return {
    config,
    generationConfig: undefined,
    get tokenizer() {
      return tokenizerFromGguf(metadata);
    },
    eosIds: eosIdsFromGguf(metadata),
    quantizationOf,
    wording: ggufWording(metadata.architecture),
    groupOf: (part, isPacked) => {
      const groups: Record<string, number> = isPacked ? GROUPS_PACKED : GROUPS_OF_MLX;
      return groups[types.get(part) ?? ""] ?? 1;
    },
    openWeights: (isPacked, cuts) =>
      isPacked
        ? packedSource(path, header, { config, cuts })
        : tensorSource(openTensors(path, header, config), { isPacked, quantizationOf, cuts }),
  };
}

/** Reads the file ourselves, each tensor straight to its place and all types that we know. */
function packedSource(
  path: string,
  header: GgufHeader,
  { config, cuts }: { config: Readonly<Record<string, unknown>>; cuts: WeightCuts },
): WeightSource {
  const file = fileName(path);
  const own = header.tensors.flatMap((tensor) => {
    const [name, heads] = [huggingFaceName(tensor.name), headsTurned(tensor.name, config)];
    const cut = cuts.of(name);
    const placed = { ...tensor, offset: header.dataOffset + tensor.offset };
    return cut ? [{ name, tensor: placed, cut, heads }] : [];
  });
  const isMatrix = ({ tensor }: OwnTensor) => tensor.shape.length > 1;
  const packer = new GgufPacker(path, own.filter(isMatrix).map((one) => matrixOf(one, file)));
  let next = 0;
  const entries = own.map((one): WeightEntry => {
    const index = isMatrix(one) ? next++ : -1;
    const load = () => index >= 0 ? packer.take(index) : vectorOf(one, path);
    return { name: one.name, load };
  });
  return { cuts, entries, [Symbol.dispose]: () => packer[Symbol.dispose]() };
}

/** A tensor of which a part is wanted. */
interface OwnTensor {
  /** Its Hugging Face name. */
  readonly name: string;
  /** Its offset counts from the start of the file. */
  readonly tensor: GgufTensor;
  readonly cut: Cut;
  /** As of {@linkcode headsTurned}. */
  readonly heads: number;
}

function matrixOf({ tensor, cut, heads }: OwnTensor, file: string): GgufMatrix {
  const { name, offset, type, shape } = tensor;
  const [inputs = 0, outputs = 0, ...others] = shape; // Innermost length first.
  if (others.some((length) => length !== 1)) {
    throw new AppError(
      "unsupported_model",
      `Cannot load "${file}": tensor "${name}" has the shape [${shape}], two lengths needed`,
      { hint: "choose a dense text model: convolutions and experts have such tensors" },
    );
  }
  requireHeads(outputs, heads);
  requireInside(tensor, cut, { outputs, inputs });
  return { offset, type, outputs, inputs, heads, rows: cut.outputs, columns: cut.inputs };
}

/** Refuses a matrix that is smaller than the settings say by which it is divided. */
function requireInside({ name, shape }: GgufTensor, cut: Cut, whole: MatrixShape): void {
  const [outputs, inputs] = [cut.outputs?.to ?? 0, cut.inputs?.to ?? 0];
  if (outputs <= whole.outputs && inputs <= whole.inputs) return;
  throw new AppError(
    "corrupt_model",
    `Cannot load the model: tensor "${name}" has the shape [${shape}], ` +
      `${Math.max(outputs, inputs)} rows or columns needed`,
    { hint: "fetch the file again, or one by another publisher: its parts do not fit together" },
  );
}

/** A vector, whose heads are put in order before it is cut. */
function vectorOf(
  { tensor: { offset, type, shape }, cut, heads }: OwnTensor,
  path: string,
): Tensor {
  const read = readVector(path, { offset, type, length: shape[0] ?? 0 });
  const turned = heads > 0 ? unpermute(read, heads).eval() : read;
  if (!cut.outputs) return turned;
  using _whole = turned;
  return turned.slice([cut.outputs.from], [cut.outputs.to]).contiguous().eval().keep();
}

/** Heads of queries or keys, whose rows llama.cpp has in an order of its own; 0 for all else. */
function headsTurned(name: string, config: Readonly<Record<string, unknown>>): number {
  const key = /\.attn_q\./.test(name)
    ? "num_attention_heads"
    : /\.attn_k\./.test(name)
    ? "num_key_value_heads"
    : undefined;
  return key === undefined ? 0 : Number(config[key]);
}

function openTensors(
  path: string,
  header: GgufHeader,
  config: Readonly<Record<string, unknown>>,
): Map<string, Tensor> {
  requireMlxTypes(header, fileName(path));
  const loaded = loadGguf(path);
  const weights = new Map<string, Tensor>();
  try {
    requireCount(loaded, header, fileName(path));
    for (const [name, tensor] of loaded) {
      const heads = headsTurned(name, config);
      weights.set(huggingFaceName(name), heads > 0 ? unpermute(tensor, heads) : tensor);
    }
    return weights;
  } catch (error) {
    for (const tensor of [...loaded.values(), ...weights.values()]) tensor[Symbol.dispose]();
    throw error;
  }
}

/**
 * The types that MLX 0.32.4 loads to the values which llama.cpp gives them, as
 * `tests/golden/parity/ggml-types.json` shows. It refuses most others, drops MXFP4 and TQ without a
 * word, and decodes Q4_K wrongly (every second group of 32).
 */
const MLX_TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q2_K", "Q6_K"];

function requireMlxTypes(header: GgufHeader, file: string): void {
  const odd = new Set(header.tensors.map(({ type }) => type).filter((t) => !MLX_TYPES.includes(t)));
  if (odd.size === 0) return;
  throw new AppError(
    "unsupported_model",
    `Cannot load "${file}" on a GPU: it has tensors of type ${
      [...odd].join(", ")
    }, supported are ` +
      MLX_TYPES.join(", "),
    { hint: "choose a file quantised as Q4_0, Q4_1 or Q8_0, or a folder that MLX has quantised" },
  );
}

/** MLX leaves out tensors of types that it does not know, without a word. */
function requireCount(
  loaded: ReadonlyMap<string, Tensor>,
  header: GgufHeader,
  file: string,
): void {
  const found = [...loaded.keys()].filter((name) => !/\.(scales|biases)$/.test(name)).length;
  if (found === header.tensors.length) return;
  throw new AppError(
    "load_failed",
    `Cannot load "${file}": MLX read ${found} of its ${header.tensors.length} tensors`,
    {
      hint: "the file has tensors that MLX leaves out; choose one quantised as Q4_0, Q4_1 or Q8_0",
    },
  );
}

/**
 * Undoes llama.cpp's order of a head's rows: (half, 2) there, (2, half) in Hugging Face's rotary
 * embedding. Rows carry their scales and biases along, so that it fits quantised matrices too.
 */
function unpermute(tensor: Tensor, heads: number): Tensor {
  const [rows = 0, ...rest] = tensor.shape;
  requireHeads(rows, heads);
  using _scope = new Scope();
  const turned = tensor.reshape(heads, rows / heads / 2, 2, ...rest)
    .swapaxes(1, 2)
    .reshape(...tensor.shape)
    .keep();
  tensor[Symbol.dispose]();
  return turned;
}

function requireHeads(rows: number, heads: number): void {
  if (heads === 0 || rows % (2 * heads) === 0) return;
  throw new AppError(
    "corrupt_model",
    `Cannot load the model: found ${rows} rows of queries or keys, a multiple of 2 × ${heads} heads needed`,
    { hint: "fetch the file again, or one by another publisher: this one was converted wrongly" },
  );
}
