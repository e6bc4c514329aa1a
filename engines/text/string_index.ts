import type { GgufStrings } from "../../core/gguf_strings.ts";

/** Of Fowler, Noll and Vo's hash FNV-1a in 32 bits. */
const [HASH_START, HASH_FACTOR] = [0x811c9dc5, 0x01000193];

/** Slots for each string: half of them stay empty, so that searches are short. */
const SLOTS_PER_STRING = 2;

/**
 * Finds the strings of a list by their text. A hash table over their bytes as they are: a `Map` of
 * a vocabulary takes eight times as long to make, most of it for decoding and collecting garbage.
 */
export class StringIndex {
  readonly #strings: GgufStrings;
  /** One more than the place of the string; 0 for none. */
  readonly #slots: Int32Array;
  /** Holds the text that is looked for; none that is longer is in the list. */
  readonly #wanted: Uint8Array;
  readonly #encoder = new TextEncoder();

  constructor(strings: GgufStrings) {
    this.#strings = strings;
    const { length } = strings;
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(SLOTS_PER_STRING * length + 1)));
    const { bytes, starts } = strings;
    let longest = 0;
    for (let index = 0; index < length; index++) {
      const [start, end] = [starts[index] ?? 0, strings.endOf(index)];
      longest = Math.max(longest, end - start);
      this.#slots[this.#slotOf(bytes, start, end)] = index + 1;
    }
    this.#wanted = new Uint8Array(longest);
  }

  /** The place of this text in the list, the last one if it is there twice. */
  find(text: string): number | undefined {
    const { read, written } = this.#encoder.encodeInto(text, this.#wanted);
    if (read < text.length) return undefined;
    const found = this.#slots[this.#slotOf(this.#wanted, 0, written)] ?? 0;
    return found === 0 ? undefined : found - 1;
  }

  /** The slot of these bytes, or the empty one where they belong. */
  #slotOf(bytes: Uint8Array, start: number, end: number): number {
    let hash = HASH_START;
    for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), HASH_FACTOR);
    const mask = this.#slots.length - 1;
    for (let slot = (hash ^ hash >>> 15) & mask;; slot = slot + 1 & mask) {
      const found = this.#slots[slot] ?? 0;
      if (found === 0 || this.#isEqual(found - 1, bytes, start, end)) return slot;
    }
  }

  #isEqual(index: number, bytes: Uint8Array, start: number, end: number): boolean {
    const { bytes: own, starts } = this.#strings;
    const from = (starts[index] ?? 0) - start;
    if (this.#strings.endOf(index) - from !== end) return false;
    for (let at = start; at < end; at++) if (own[from + at] !== bytes[at]) return false;
    return true;
  }
}
