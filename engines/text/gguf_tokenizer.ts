import { AppError } from "../../core/errors.ts";
import type { GgufMetadata } from "../../core/gguf_metadata.ts";
import type { GgufStrings } from "../../core/gguf_strings.ts";
import type { TokenizerSource } from "./tokenizer.ts";

/** llama.cpp's kinds of tokens, as `tokenizer.ggml.token_type` numbers them. */
const [CONTROL, USER_DEFINED] = [3, 4];
const TYPES_WITHOUT_MERGES: readonly number[] = [2, CONTROL, 5, 6];

/** Tokens that end a turn, whatever the file calls its end: llama.cpp knows them by text too. */
const END_OF_TURN: readonly string[] = [
  "<|im_end|>",
  "<|eot_id|>",
  "<|end|>",
  "<end_of_turn>",
  "<|endoftext|>",
  "<|end_of_text|>",
];

const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const LLAMA3 = [
  String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)`,
  String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`,
  String.raw`\p{N}{1,3}`,
  String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*`,
  String.raw`\s*[\r\n]+`,
  String.raw`\s+(?!\S)`,
  String.raw`\s+`,
].join("|");

/** How a family splits text before merging. */
interface PreTokenizer {
  /** Regular expressions, one after the other; or single digits, then GPT-2's. */
  readonly splits: readonly string[] | "digits";
  readonly normalizer?: "NFC";
  /** A word that is a token is not merged up to it. */
  readonly ignoreMerges?: boolean;
}

const LLAMA_BPE: PreTokenizer = { splits: [LLAMA3], ignoreMerges: true };
const QWEN2: PreTokenizer = { splits: [LLAMA3.replace("{1,3}", "")], normalizer: "NFC" };

/** By `tokenizer.ggml.pre`. Source: llama.cpp, src/llama-vocab.cpp (2026-06). */
const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  "gpt-2": { splits: [GPT2] },
  "smollm": { splits: "digits" },
  "llama-bpe": LLAMA_BPE,
  "llama3": LLAMA_BPE,
  "llama-v3": LLAMA_BPE,
  "qwen2": QWEN2,
  "deepseek-r1-qwen": QWEN2,
  "default": {
    splits: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2, String.raw`\p{N}+`, "[0-9][0-9][0-9]"],
  },
};

/**
 * The tokenizer and the chat template that a GGUF carries, as a `tokenizer.json` and its config.
 * @throws {AppError} `unsupported_model` for a kind that we cannot rebuild, `corrupt_model` for a
 * vocabulary with parts missing.
 */
export function tokenizerFromGguf(metadata: GgufMetadata): TokenizerSource {
  const tokens = need(metadata.strings("tokenizer.ggml.tokens"), metadata, "tokens");
  const kind = metadata.string("tokenizer.ggml.model") ?? "none";
  const parts = kind === "gpt2"
    ? byteLevel(metadata, tokens)
    : kind === "llama"
    ? sentencePiece(metadata, tokens.toArray())
    : refuse(metadata, `tokenizer "${kind}"`, "gpt2, llama");
  const word = (name: string) =>
    tokens.at(metadata.number(`tokenizer.ggml.${name}_token_id`) ?? -1);
  const { tables, ...others } = parts;
  return {
    tokenizer: {
      ...{ version: "1.0", added_tokens: addedTokens(metadata), post_processor: null },
      ...others,
    },
    tables,
    config: {
      bos_token: word("bos"),
      eos_token: word("eos"),
      unk_token: word("unknown"),
      chat_template: metadata.string("tokenizer.chat_template"),
      clean_up_tokenization_spaces: false,
    },
  };
}

/** The tokens that are found in a text before it is split. */
function addedTokens(metadata: GgufMetadata) {
  const tokens = metadata.strings("tokenizer.ggml.tokens");
  return (metadata.numbers("tokenizer.ggml.token_type") ?? []).flatMap((type, id) => {
    if (type !== CONTROL && type !== USER_DEFINED) return [];
    const content = tokens?.at(id);
    return content === undefined
      ? []
      : [{ id, content, special: type === CONTROL, normalized: false }];
  });
}

/** Ids that end a GGUF's answer: eos, eot and eom, and ends of turns by their text. */
export function eosIdsFromGguf(metadata: GgufMetadata): number[] {
  const named = ["eos", "eot", "eom"]
    .map((name) => metadata.number(`tokenizer.ggml.${name}_token_id`))
    .filter((id) => id !== undefined);
  const known = addedTokens(metadata)
    .filter(({ special, content }) => special && END_OF_TURN.includes(content));
  return [...new Set([...named, ...known.map(({ id }) => id)])];
}

function byteLevel(metadata: GgufMetadata, tokens: GgufStrings) {
  const name = metadata.string("tokenizer.ggml.pre") ?? "default";
  const pre = PRE_TOKENIZERS[name] ??
    refuse(metadata, `pre-tokenizer "${name}"`, Object.keys(PRE_TOKENIZERS).join(", "));
  const merges = need(metadata.strings("tokenizer.ggml.merges"), metadata, "merges");
  const splits = pre.splits === "digits"
    ? [{ type: "Digits", individual_digits: true }] // Made a Split by TextTokenizer.
    : pre.splits.map((Regex) => ({
      type: "Split",
      pattern: { Regex },
      behavior: "Isolated",
      invert: false,
    }));
  return {
    normalizer: pre.normalizer ? { type: pre.normalizer } : null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [...splits, {
        type: "ByteLevel",
        add_prefix_space: false,
        trim_offsets: true,
        use_regex: pre.splits === "digits",
      }],
    },
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      vocab: {}, // Like the merges, in the tables.
      merges: [],
      ignore_merges: pre.ignoreMerges ?? false,
    },
    tables: { tokens, merges },
  };
}

function vocabOf(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

/** A SentencePiece BPE vocabulary: scores become merges, unknown characters become byte tokens. */
function sentencePiece(metadata: GgufMetadata, tokens: readonly string[]) {
  const types = metadata.numbers("tokenizer.ggml.token_type") ?? [];
  const scores = need(metadata.numbers("tokenizer.ggml.scores"), metadata, "scores");
  const prefix = metadata.boolean("tokenizer.ggml.add_space_prefix") ?? true;
  const toMeta = { type: "Replace", pattern: { String: " " }, content: "▁" };
  return {
    normalizer: {
      type: "Sequence",
      normalizers: prefix ? [{ type: "Prepend", prepend: "▁" }, toMeta] : [toMeta],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: "BPE",
      vocab: vocabOf(tokens),
      merges: mergesFromScores(tokens, scores, types),
      unk_token: tokens[metadata.number("tokenizer.ggml.unknown_token_id") ?? 0],
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
    },
    tables: undefined,
  };
}

/**
 * Every way to put a token together from two others, best score first. Source: transformers,
 * convert_slow_tokenizer.py, generate_merges (5.23).
 */
function mergesFromScores(
  tokens: readonly string[],
  scores: readonly number[],
  types: readonly number[],
): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges: { left: string; right: string; score: number; ids: [number, number] }[] = [];
  tokens.forEach((token, id) => {
    if (TYPES_WITHOUT_MERGES.includes(types[id] ?? 1)) return;
    const letters = [...token];
    for (let at = 1; at < letters.length; at++) {
      const [left, right] = [letters.slice(0, at).join(""), letters.slice(at).join("")];
      const [l, r] = [ids.get(left), ids.get(right)];
      if (l === undefined || r === undefined) continue;
      merges.push({ left, right, score: scores[id] ?? 0, ids: [l, r] });
    }
  });
  merges.sort((a, b) =>
    b.score - a.score || [...b.left].length - [...a.left].length ||
    [...b.right].length - [...a.right].length || a.ids[0] - b.ids[0] || a.ids[1] - b.ids[1]
  );
  return merges.map(({ left, right }) => [left, right]);
}

function need<T>(value: T | undefined, metadata: GgufMetadata, key: string): T {
  if (value !== undefined) return value;
  throw new AppError(
    "corrupt_model",
    `Cannot read "${metadata.file}": its metadata has no tokenizer.ggml.${key}, a list needed`,
    { hint: "fetch another GGUF of the model, or make one with llama.cpp's convert_hf_to_gguf.py" },
  );
}

function refuse(metadata: GgufMetadata, found: string, known: string): never {
  throw new AppError(
    "unsupported_model",
    `Cannot read the tokenizer of "${metadata.file}": ${found} found, one of ${known} needed`,
    { hint: "choose a model that has one of them, or its folder with a tokenizer.json" },
  );
}
