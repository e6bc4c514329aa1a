/** Bytes of the length that stands before each string. */
const LENGTH_BYTES = 8;

/**
 * A list of strings of a GGUF header, as the file has it. A vocabulary has a hundred thousand of
 * them, of which few are ever looked at: each is decoded when it is asked for.
 */
export class GgufStrings {
  readonly #text = new TextDecoder();

  /** Each string begins at its place in `starts`, which ends with where one more would begin. */
  constructor(readonly bytes: Uint8Array, readonly starts: Float64Array) {}

  /** The list of these strings. */
  static of(strings: readonly string[]): GgufStrings {
    const encoder = new TextEncoder();
    const parts = strings.map((text) => encoder.encode(text));
    const starts = new Float64Array(strings.length + 1);
    let end = 0;
    parts.forEach(({ length }, i) => {
      starts[i] = end + LENGTH_BYTES;
      end += LENGTH_BYTES + length;
    });
    starts[strings.length] = end + LENGTH_BYTES;
    const bytes = new Uint8Array(end);
    parts.forEach((part, i) => bytes.set(part, starts[i]));
    return new GgufStrings(bytes, starts);
  }

  get length(): number {
    return this.starts.length - 1;
  }

  /** Where the bytes of a string end; NaN behind the last. */
  endOf(index: number): number {
    return Number(this.starts[index + 1]) - LENGTH_BYTES;
  }

  /** The string at this place; undefined where there is none. */
  at(index: number): string | undefined {
    const [start, next] = [this.starts[index], this.starts[index + 1]];
    if (start === undefined || next === undefined) return undefined;
    return this.#decode(start, next - LENGTH_BYTES);
  }

  /** All of them. */
  toArray(): string[] {
    const starts = this.starts.subarray(0, this.length);
    return Array.from(starts, (start, index) => this.#decode(start, this.endOf(index)));
  }

  toJSON(): string[] {
    return this.toArray();
  }

  #decode(start: number, end: number): string {
    return this.#text.decode(this.bytes.subarray(start, end));
  }
}
