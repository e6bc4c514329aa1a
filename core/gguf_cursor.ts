import { corrupt } from "./corrupt_file.ts";
import { GgufStrings } from "./gguf_strings.ts";

/** A value of a GGUF's metadata; 64-bit integers become the nearest number. */
export type GgufValue = number | string | boolean | GgufStrings | readonly GgufValue[];

/** Limits on what a value may ask us to hold. */
const ARRAY_LENGTH_MAX = 16_777_216;
const STRING_BYTES_MAX = 16_777_216;
const NESTING_MAX = 3;

/** The number of the type of strings. */
const STRING = 8;

/** The numbers of the types that `value` reads. */
const VALUE_TYPES = "0 to 12";

/** Raised inside the parser alone: the bytes at hand end before the header does. */
export class ShortRead extends Error {}

/** Reads little-endian values one after another. */
export class GgufCursor {
  at = 0;
  readonly #view: DataView;
  readonly #text = new TextDecoder();

  constructor(readonly bytes: Uint8Array, readonly file: string) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Moves over `count` bytes; returns where they begin. */
  skip(count: number): number {
    const start = this.at;
    if (start + count > this.bytes.length) throw new ShortRead();
    this.at += count;
    return start;
  }

  u32(): number {
    return this.#view.getUint32(this.skip(4), true);
  }

  /** A u64 that counts or locates something, at most `max`. */
  size(max: number, what: string): number {
    const at = this.skip(8);
    // Not as one number of 64 bits: vocabularies have a hundred thousand of these.
    const value = this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
    if (value <= max) return value;
    const found = this.#view.getBigUint64(at, true);
    throw corrupt(this.file, `${what} is ${found}, at most ${max} expected`);
  }

  string(): string {
    const start = this.#skipString();
    return this.#text.decode(this.bytes.subarray(start, this.at));
  }

  /** Moves over a string; returns where its bytes begin. */
  #skipString(): number {
    return this.skip(this.size(STRING_BYTES_MAX, "the length of a string"));
  }

  value(type: number, depth = 0): GgufValue {
    const view = this.#view;
    switch (type) {
      case 0:
        return view.getUint8(this.skip(1));
      case 1:
        return view.getInt8(this.skip(1));
      case 2:
        return view.getUint16(this.skip(2), true);
      case 3:
        return view.getInt16(this.skip(2), true);
      case 4:
        return view.getUint32(this.skip(4), true);
      case 5:
        return view.getInt32(this.skip(4), true);
      case 6:
        return view.getFloat32(this.skip(4), true);
      case 7:
        return view.getUint8(this.skip(1)) !== 0;
      case STRING:
        return this.string();
      case 9:
        return this.array(depth);
      case 10:
        return Number(view.getBigUint64(this.skip(8), true));
      case 11:
        return Number(view.getBigInt64(this.skip(8), true));
      case 12:
        return view.getFloat64(this.skip(8), true);
      default:
        throw corrupt(this.file, `a metadata value has type ${type}, ${VALUE_TYPES} expected`);
    }
  }

  array(depth: number): GgufValue {
    if (depth >= NESTING_MAX) {
      const found = `metadata arrays are over ${NESTING_MAX} levels deep`;
      throw corrupt(this.file, `${found}, ${NESTING_MAX} at most expected`);
    }
    const type = this.u32();
    const length = this.size(ARRAY_LENGTH_MAX, "the length of a metadata array");
    if (type === STRING) return this.#strings(length);
    // One at a time: a short read must not first reserve what the length claims.
    const values: GgufValue[] = [];
    for (let i = 0; i < length; i++) values.push(this.value(type, depth + 1));
    return values;
  }

  /** So many strings, which are not decoded yet. */
  #strings(length: number): GgufStrings {
    // Each has its own length at least: nothing is reserved for more than the bytes can hold.
    if (length * 8 > this.bytes.length - this.at) throw new ShortRead();
    const begin = this.at;
    const starts = new Float64Array(length + 1);
    for (let i = 0; i < length; i++) starts[i] = this.#skipString() - begin;
    starts[length] = this.at + 8 - begin;
    return new GgufStrings(this.bytes.slice(begin, this.at), starts);
  }
}
