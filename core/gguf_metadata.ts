import { corrupt } from "./corrupt_file.ts";
import type { GgufHeader } from "./gguf.ts";
import { GgufStrings } from "./gguf_strings.ts";

/** Longest piece of a wrong value that a message repeats. */
const VALUE_CHARS_MAX = 60;

/** A metadata value as a message shows it. */
export function show(value: unknown): string {
  return value === undefined ? "missing" : JSON.stringify(value).slice(0, VALUE_CHARS_MAX);
}

/** Typed look-ups in a GGUF's metadata; a value of another type is as good as none. */
export class GgufMetadata {
  constructor(readonly header: GgufHeader, readonly file: string) {}

  string(key: string): string | undefined {
    const value = this.header.metadata.get(key);
    return typeof value === "string" ? value : undefined;
  }

  number(key: string): number | undefined {
    const value = this.header.metadata.get(key);
    return typeof value === "number" ? value : undefined;
  }

  boolean(key: string): boolean | undefined {
    const value = this.header.metadata.get(key);
    return typeof value === "boolean" ? value : undefined;
  }

  strings(key: string): GgufStrings | undefined {
    const value = this.header.metadata.get(key);
    return value instanceof GgufStrings ? value : undefined;
  }

  numbers(key: string): readonly number[] | undefined {
    const value = this.header.metadata.get(key);
    return Array.isArray(value) && value.every((v) => typeof v === "number") ? value : undefined;
  }

  /** @throws {AppError} `corrupt_model` when there is none. */
  count(key: string): number {
    const value = this.number(key);
    if (value !== undefined && Number.isInteger(value) && value > 0) return value;
    const found = show(this.header.metadata.get(key));
    throw corrupt(this.file, `its ${key} is ${found}, a whole number from 1 on expected`);
  }

  /** @throws {AppError} `corrupt_model` when the file does not name one. */
  get architecture(): string {
    const name = this.string("general.architecture");
    if (name === undefined) {
      throw corrupt(this.file, "its metadata has no general.architecture, a name expected");
    }
    return name;
  }

  /** Length of one head's keys. */
  get headDim(): number {
    const arch = this.architecture;
    return this.number(`${arch}.attention.key_length`) ??
      this.number(`${arch}.rope.dimension_count`) ??
      Math.floor(
        this.count(`${arch}.embedding_length`) / this.count(`${arch}.attention.head_count`),
      );
  }

  get kvHeads(): number {
    const arch = this.architecture;
    return this.number(`${arch}.attention.head_count_kv`) ??
      this.count(`${arch}.attention.head_count`);
  }
}
