import { Tokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { type BpeTables, TableBpe, useMerger } from "./bpe.ts";
import { tokenBytesOf } from "./token_bytes.ts";

/** A `tokenizer.json` and a `tokenizer_config.json`, parsed. */
export interface TokenizerSource {
  readonly tokenizer: Readonly<Record<string, unknown>>;
  readonly config: Readonly<Record<string, unknown>>;
  /** The vocabulary and merges of a BPE whose `tokenizer.json` has none. */
  readonly tables?: BpeTables | undefined;
}

/** A special token of a `tokenizer_config.json`: its text, or an object around it. */
const TokenWord = z.union([
  z.string(),
  z.object({ content: z.string() }).transform(({ content }) => content),
]).nullish().catch(undefined);

const ChatTemplates = z.union([
  z.string(),
  z.array(z.object({ name: z.string(), template: z.string() })).transform((all) =>
    (all.find(({ name }) => name === "default") ?? all[0])?.template
  ),
]).nullish().catch(undefined);

const TokenizerConfig = z.object({
  bos_token: TokenWord,
  eos_token: TokenWord,
  chat_template: ChatTemplates,
});

/** Text to token ids and back. */
export class TextTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #tokenOf: (id: number) => string | undefined;
  readonly #bytesOf: (token: string, isAdded: boolean) => Uint8Array;
  readonly #added: ReadonlySet<number>;
  /** Whether the decoder drops the space that the encoder put before the text. */
  readonly trimsLeadingSpace: boolean;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  /** The chat template that came with the tokenizer. */
  readonly chatTemplate: string | undefined;

  /** @throws {AppError} `unsupported_model` for a tokenizer that the library or we do not know. */
  constructor({ tokenizer, config, tables }: TokenizerSource) {
    try {
      const pre_tokenizer = withUnicodeDigits(tokenizer["pre_tokenizer"]);
      this.#tokenizer = new Tokenizer({ ...tokenizer, pre_tokenizer }, config);
      if (tables) this.#tokenizer.model = new TableBpe(tokenizer["model"], tables);
      else useMerger(this.#tokenizer.model);
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error);
      const needed = "BPE, Unigram or WordPiece needed";
      const message = `Cannot build the tokenizer: found ${
        typeOf(tokenizer["model"])
      }: ${found}; ${needed}`;
      throw new AppError("unsupported_model", message, {
        hint: "choose a model whose tokenizer.json has one of them as its model.type",
        cause: error,
      });
    }
    this.#tokenOf = (id) => tables ? tables.tokens.at(id) : this.#tokenizer.id_to_token(id);
    const { bytesOf, trimsLeadingSpace } = tokenBytesOf(tokenizer.decoder);
    this.#bytesOf = bytesOf;
    this.trimsLeadingSpace = trimsLeadingSpace;
    this.#added = new Set(this.#tokenizer.get_added_tokens_decoder().keys());
    const known = TokenizerConfig.parse(config);
    this.bosToken = known.bos_token ?? undefined;
    this.eosToken = known.eos_token ?? undefined;
    this.chatTemplate = known.chat_template ?? undefined;
  }

  /** Token ids of `text`; special tokens where the text spells them, none added. */
  encode(text: string): number[] {
    if (text === "") return [];
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** The id of a token by its text in the vocabulary. */
  idOf(token: string): number | undefined {
    return this.#tokenizer.token_to_id(token);
  }

  /** The bytes that a token stands for; none for an id outside of the vocabulary. */
  bytesOf(id: number): Uint8Array {
    const token = this.#tokenOf(id);
    return token === undefined ? new Uint8Array() : this.#bytesOf(token, this.#added.has(id));
  }
}

/** What kind of tokenizer the file says that it is. */
function typeOf(model: unknown): string {
  const type = (model as { type?: unknown } | null | undefined)?.type;
  return typeof type === "string" ? `model "${type}"` : "no model of a known type";
}

/**
 * The same pre-tokenizer with `Digits` as a split by `\p{N}`: the Rust library counts all numbers
 * of Unicode as digits, this one (0.2.0) only decimal ones, so that "½" and "²" would differ.
 */
function withUnicodeDigits(step: unknown): unknown {
  if (typeof step !== "object" || step === null) return step;
  const { type, pretokenizers, individual_digits } = step as Record<string, unknown>;
  if (Array.isArray(pretokenizers)) {
    return { ...step, pretokenizers: pretokenizers.map(withUnicodeDigits) };
  }
  if (type !== "Digits") return step;
  const Regex = individual_digits ? String.raw`\p{N}` : String.raw`\p{N}+`;
  return { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false };
}
