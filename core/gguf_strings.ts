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
    const starts = new Float64Array(strings.length + 1).fill(LENGTH_BYTES);
    parts.forEach(({ length }, i) => starts[i + 1] = (starts[i] ?? 0) + length + LENGTH_BYTES);
    const bytes = new Uint8Array((starts.at(-1) ?? 0) - LENGTH_BYTES);
    parts.forEach((part, i) => bytes.set(part, starts[i]));
    return new GgufStrings(bytes, starts);
  }

  get length(): number {
    return this.starts.length - 1;
  }

  /** Where the bytes of a string end. */
  endOf(index: number): number {
    return (this.starts[index + 1] ?? 0) - LENGTH_BYTES;
  }

  /** The string at this place; undefined where there is none. */
  at(index: number): string | undefined {
    const [start, next] = [this.starts[index], this.starts[index + 1]];
    if (start === undefined || next === undefined) return undefined;
    return this.#text.decode(this.bytes.subarray(start, next - LENGTH_BYTES));
  }

  /** All of them. */
  toArray(): string[] {
    return Array.from({ length: this.length }, (_, index) => this.at(index) ?? "");
  }

  toJSON(): string[] {
    return this.toArray();
  }
}
