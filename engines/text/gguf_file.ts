import {
  checkGgufTensors,
  GGUF_PREFIX_BYTES,
  type GgufHeader,
  parseGgufHeader,
} from "../../core/gguf.ts";
import { GgufMetadata } from "../../core/gguf_metadata.ts";
import { AppError } from "../../core/errors.ts";
import { fileName, readStart } from "./files.ts";

/**
 * The header of a GGUF file, with its tensors checked against the file's size. Reads some megabytes
 * (1.8 MB and 10 ms for a vocabulary of 49,152 tokens), never the weights.
 * @throws {AppError} `corrupt_model`, `unsupported_model`, or `load_failed` when it cannot be read.
 */
export function readGgufHeader(path: string): GgufHeader {
  const file = fileName(path);
  for (let wanted = GGUF_PREFIX_BYTES;; wanted *= 4) {
    const { bytes, fileBytes } = readStart(path, wanted);
    const header = parseGgufHeader(bytes, file, fileBytes);
    if (!header) continue;
    checkGgufTensors(header, file, fileBytes);
    return header;
  }
}

/** How llama.cpp names rope scaling, for `rope_scaling` of a `config.json`. */
const ROPE_SCALINGS = ["none", "linear"];

/** Where a GGUF has what a `config.json` calls so, behind the name of its architecture. */
const KEYS = {
  hidden_size: "embedding_length",
  intermediate_size: "feed_forward_length",
  num_hidden_layers: "block_count",
  num_attention_heads: "attention.head_count",
  num_key_value_heads: "attention.head_count_kv",
  head_dim: "attention.key_length",
  rms_norm_eps: "attention.layer_norm_rms_epsilon",
  rope_theta: "rope.freq_base",
  max_position_embeddings: "context_length",
  "rope_scaling.factor": "rope.scaling.factor",
} as const;

/** {@linkcode KEYS} for look-ups by any name. */
export const GGUF_KEYS: ReadonlyMap<string, string> = new Map(Object.entries(KEYS));

/**
 * What a GGUF of the llama family says about its model, in the words of a `config.json`. The llama3
 * scaling of its rope comes as a tensor (`rope_freqs`), not here.
 * @throws {AppError} `unsupported_model` for a scaling or a shape that our models do not know.
 */
export function configFromGguf(header: GgufHeader, file: string): Record<string, unknown> {
  const metadata = new GgufMetadata(header, file);
  const arch = metadata.architecture;
  const number = (key: string) => metadata.number(`${arch}.${key}`);
  const count = (name: keyof typeof KEYS) => metadata.count(`${arch}.${KEYS[name]}`);
  const scaling = metadata.string(`${arch}.rope.scaling.type`) ?? "none";
  const factor = number(KEYS["rope_scaling.factor"]);
  if (!ROPE_SCALINGS.includes(scaling)) {
    const hint = `choose a file whose ${arch}.rope.scaling.type is none or linear`;
    refuse(file, `rope scaling "${scaling}", none or linear needed`, hint);
  }
  if ((number("expert_count") ?? 0) > 0) {
    const hint = "choose a dense model: one without experts (MoE, 8x7B) in its name";
    refuse(file, `${number("expert_count")} experts, none needed`, hint);
  }
  if (metadata.numbers(`${arch}.${KEYS.num_key_value_heads}`)) {
    const hint = `choose a file whose ${arch}.${KEYS.num_key_value_heads} is one number`;
    refuse(file, "a different number of KV heads in each layer, one for all needed", hint);
  }
  return {
    model_type: arch,
    hidden_size: count("hidden_size"),
    intermediate_size: count("intermediate_size"),
    num_hidden_layers: count("num_hidden_layers"),
    num_attention_heads: count("num_attention_heads"),
    num_key_value_heads: metadata.kvHeads,
    head_dim: metadata.headDim,
    rms_norm_eps: number(KEYS.rms_norm_eps),
    rope_theta: number(KEYS.rope_theta),
    max_position_embeddings: number(KEYS.max_position_embeddings),
    vocab_size: metadata.strings("tokenizer.ggml.tokens")?.length,
    tie_word_embeddings: !header.tensors.some(({ name }) => name === "output.weight"),
    rope_scaling: scaling === "linear" && factor ? { rope_type: "linear", factor } : null,
  };
}

function refuse(file: string, found: string, hint: string): never {
  throw new AppError("unsupported_model", `Cannot run "${file}": it has ${found}`, { hint });
}
