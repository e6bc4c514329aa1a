/** Longest line that is kept whole; the rest of a longer one is dropped. */
const LINE_CHARS_MAX = 2_000;

/** The last lines of a stream of text, in bounded memory whatever is written to it. */
export class TailBuffer {
  readonly #lines: string[] = [];
  readonly #limit: number;
  readonly #decoder = new TextDecoder();
  #partial = "";

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Takes bytes in; returns the lines that they complete. */
  push(bytes: Uint8Array): string[] {
    const pieces = (this.#partial + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#partial = (pieces.pop() ?? "").slice(0, LINE_CHARS_MAX);
    const complete = pieces.map((line) => line.slice(0, LINE_CHARS_MAX));
    this.#lines.push(...complete.slice(-this.#limit));
    this.#lines.splice(0, Math.max(0, this.#lines.length - this.#limit));
    return complete;
  }

  /** The last lines, oldest first, with what was begun and not ended. */
  lines(): string[] {
    return this.#partial === "" ? [...this.#lines] : [...this.#lines, this.#partial];
  }
}
