import type { GgufHeader, GgufValue } from "../core/gguf.ts";
import { GgufStrings } from "../core/gguf_strings.ts";
import {
  aligned,
  ggufHead,
  type GgufWritten,
  tensorBytes,
  WRITTEN_TYPES,
  type WrittenTensor,
} from "./gguf_writer.ts";

/** Shape of a llama whose head is its embedding. */
export interface SyntheticShape {
  readonly name: string;
  readonly layers: number;
  readonly hidden: number;
  readonly feedForward: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly contextTokens: number;
}

/**
 * Large enough that its weights (some 300 MB) come from memory in each step, and the rest of a step
 * counts little: with SmolLM2's vocabulary 492 million parameters.
 */
export const SYNTHETIC_500M: SyntheticShape = {
  name: "synthetic-500m",
  ...{ layers: 24, hidden: 1280, feedForward: 3584, heads: 20, kvHeads: 5, contextTokens: 2048 },
};

/** So small that a step takes next to no time: what is left is all that is around it. */
export const SYNTHETIC_SMALL: SyntheticShape = {
  name: "synthetic-small",
  ...{ layers: 6, hidden: 64, feedForward: 128, heads: 4, kvHeads: 2, contextTokens: 2048 },
};

/** Deviation of whole numbers from 0 to 15, each as likely. */
const NIBBLE_DEVIATION = Math.sqrt((16 ** 2 - 1) / 12);

/** Blocks that are made at a time. */
const BLOCKS_PER_CHUNK = 1 << 16;

/**
 * Writes a GGUF file with random Q4_1 matrices and the tokenizer of another file. Two calls write
 * the same bytes; of the weights no more than a megabyte or two is in memory at a time.
 */
export async function writeSyntheticModel(
  path: string,
  { shape, tokenizer, seed = 1 }: {
    readonly shape: SyntheticShape;
    /** Header of the file that lends its tokenizer. */
    readonly tokenizer: GgufHeader;
    readonly seed?: number;
  },
): Promise<void> {
  const words = tokenizerEntries(tokenizer);
  const tensors = tensorsOf(shape, vocabularySize(tokenizer));
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  await writeAll(file, ggufHead({ ...modelEntries(shape), ...words }, tensors));
  const random = new XorShift(seed);
  for (const tensor of tensors) {
    for (const chunk of dataOf(tensor, random)) await writeAll(file, chunk);
    await writeAll(file, new Uint8Array(aligned(tensorBytes(tensor)) - tensorBytes(tensor)));
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}

function vocabularySize({ metadata }: GgufHeader): number {
  const tokens = metadata.get("tokenizer.ggml.tokens");
  return tokens instanceof GgufStrings ? tokens.length : 0;
}

/** Source of the keys: ggml's gguf.md, and llama.cpp's llama-arch.cpp (2026-06). */
function modelEntries(shape: SyntheticShape): Record<string, GgufWritten> {
  const { name, layers, hidden, feedForward, heads, kvHeads, contextTokens } = shape;
  return {
    "general.architecture": { string: "llama" },
    "general.name": { string: name },
    "general.file_type": { u32: WRITTEN_TYPES.Q4_1.number },
    "general.quantization_version": { u32: 2 },
    "llama.block_count": { u32: layers },
    "llama.context_length": { u32: contextTokens },
    "llama.embedding_length": { u32: hidden },
    "llama.feed_forward_length": { u32: feedForward },
    "llama.attention.head_count": { u32: heads },
    "llama.attention.head_count_kv": { u32: kvHeads },
    "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
    "llama.rope.dimension_count": { u32: hidden / heads },
    "llama.rope.freq_base": { f32: 10_000 },
  };
}

function tokenizerEntries({ metadata }: GgufHeader): Record<string, GgufWritten> {
  return Object.fromEntries(
    [...metadata].filter(([key]) => key.startsWith("tokenizer."))
      .map(([key, value]) => [key, written(key, value)]),
  );
}

/** What a header has lost of a value's type, its key tells. */
function written(key: string, value: GgufValue): GgufWritten {
  if (typeof value === "string") return { string: value };
  if (typeof value === "boolean") return { bool: value };
  if (typeof value === "number") return { u32: value };
  if (value instanceof GgufStrings) return { strings: value.toArray() };
  const numbers = value.map(Number);
  return key.endsWith(".scores") ? { f32s: numbers } : { i32s: numbers };
}

function tensorsOf(shape: SyntheticShape, vocabulary: number): WrittenTensor[] {
  const { layers, hidden, feedForward, heads, kvHeads } = shape;
  const kv = hidden / heads * kvHeads;
  const norm = (name: string): WrittenTensor => ({ name, shape: [hidden], type: "F32" });
  const matrix = (name: string, inputs: number, outputs: number): WrittenTensor => ({
    ...{ name, shape: [inputs, outputs], type: "Q4_1" },
  });
  const block = (layer: number): WrittenTensor[] => [
    norm(`blk.${layer}.attn_norm.weight`),
    matrix(`blk.${layer}.attn_q.weight`, hidden, hidden),
    matrix(`blk.${layer}.attn_k.weight`, hidden, kv),
    matrix(`blk.${layer}.attn_v.weight`, hidden, kv),
    matrix(`blk.${layer}.attn_output.weight`, hidden, hidden),
    norm(`blk.${layer}.ffn_norm.weight`),
    matrix(`blk.${layer}.ffn_gate.weight`, hidden, feedForward),
    matrix(`blk.${layer}.ffn_up.weight`, hidden, feedForward),
    matrix(`blk.${layer}.ffn_down.weight`, feedForward, hidden),
  ];
  return [
    matrix("token_embd.weight", hidden, vocabulary),
    ...Array.from({ length: layers }, (_, layer) => block(layer)).flat(),
    norm("output_norm.weight"),
  ];
}

/** Ones for a norm; for a matrix values around 0 that keep the length of what they multiply. */
function* dataOf(
  tensor: WrittenTensor,
  random: XorShift,
): Generator<Uint8Array<ArrayBuffer>> {
  const { shape: [inputs = 0], type } = tensor;
  if (type === "F32") return yield new Uint8Array(new Float32Array(inputs).fill(1).buffer);
  const { bytes } = WRITTEN_TYPES.Q4_1;
  const scale = 1 / (NIBBLE_DEVIATION * Math.sqrt(inputs));
  for (let left = tensorBytes(tensor) / bytes; left > 0; left -= BLOCKS_PER_CHUNK) {
    const blocks = Math.min(left, BLOCKS_PER_CHUNK);
    const words = new Uint32Array(blocks * bytes / 4);
    random.fill(words);
    const halves = new Float16Array(words.buffer);
    for (let block = 0; block < blocks; block++) {
      const own = scale * (0.75 + 0.5 * random.next() / 2 ** 32);
      halves[block * bytes / 2] = own;
      halves[block * bytes / 2 + 1] = -7.5 * own; // So that their mean is 0.
    }
    yield new Uint8Array(words.buffer);
  }
}

/** Random numbers that a seed decides. Source: Marsaglia 2003, Xorshift RNGs, 32 bits. */
class XorShift {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** From 1 to 2³² − 1. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return this.#state = x >>> 0;
  }

  fill(words: Uint32Array): void {
    for (let at = 0; at < words.length; at++) words[at] = this.next();
  }
}
