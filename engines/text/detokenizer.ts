import type { TextTokenizer } from "./tokenizer.ts";

const SPACE = 0x20;

/**
 * Tokens to text as they come: what `add` and `finish` return, joined, is the text of all tokens.
 * Incomplete UTF-8 waits for its rest; what never completes becomes U+FFFD. Each token costs its
 * own bytes, however long the text is.
 */
export class Detokenizer {
  readonly #tokenizer: Pick<TextTokenizer, "bytesOf">;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #trims: boolean;

  constructor(tokenizer: Pick<TextTokenizer, "bytesOf" | "trimsLeadingSpace">) {
    this.#tokenizer = tokenizer;
    this.#trims = tokenizer.trimsLeadingSpace;
  }

  /** The text that this token completes; often empty. */
  add(id: number): string {
    let bytes = this.#tokenizer.bytesOf(id);
    if (this.#trims && bytes.length > 0) {
      this.#trims = false;
      if (bytes[0] === SPACE) bytes = bytes.subarray(1);
    }
    return this.#decoder.decode(bytes, { stream: true });
  }

  /** What was held back. */
  finish(): string {
    return this.#decoder.decode();
  }
}
