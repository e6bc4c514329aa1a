import { promptOfTooManyCharacters } from "../refusals.ts";

/**
 * Characters for each token of the context that a prompt may have. Ordinary text has 3 to 5; more
 * than this are runs of one character, of which a token may hold 64 and which take as long to read.
 */
export const CHARS_PER_TOKEN_MAX = 16;

/** Prompts whose ids are remembered, and characters of them all: some 30 MB at most. */
export const REMEMBERED_PROMPTS_MAX = 8;
const REMEMBERED_CHARS_MAX = 2 ** 21;

/** The part of a tokenizer that reads. */
export interface PromptTokenizer {
  encode(text: string): number[];
}

/**
 * Prompts to token ids. All others wait while one is read, so that it is read once: the answers to
 * one prompt that are asked for together (`n`) share its ids.
 */
export class PromptEncoder {
  readonly #tokenizer: PromptTokenizer;
  readonly #contextTokens: number;
  /** The one that was asked for last comes last. */
  readonly #remembered = new Map<string, readonly number[]>();
  #rememberedChars = 0;

  constructor(tokenizer: PromptTokenizer, contextTokens: number) {
    this.#tokenizer = tokenizer;
    this.#contextTokens = contextTokens;
  }

  /**
   * Token ids of the whole prompt.
   * @throws {AppError} `context_length_exceeded` for a prompt that is too long to be read.
   */
  encode(prompt: string): readonly number[] {
    const charsMax = CHARS_PER_TOKEN_MAX * this.#contextTokens;
    if (prompt.length > charsMax) {
      throw promptOfTooManyCharacters(prompt.length, charsMax, this.#contextTokens);
    }
    const ids = this.#remembered.get(prompt) ?? this.#tokenizer.encode(prompt);
    this.#remember(prompt, ids);
    return ids;
  }

  #remember(prompt: string, ids: readonly number[]): void {
    this.#forget(prompt);
    this.#remembered.set(prompt, ids);
    this.#rememberedChars += prompt.length;
    const isOver = () =>
      this.#remembered.size > REMEMBERED_PROMPTS_MAX ||
      this.#rememberedChars > REMEMBERED_CHARS_MAX;
    for (const oldest of this.#remembered.keys()) {
      if (!isOver()) break;
      this.#forget(oldest);
    }
  }

  #forget(prompt: string): void {
    if (this.#remembered.delete(prompt)) this.#rememberedChars -= prompt.length;
  }
}
