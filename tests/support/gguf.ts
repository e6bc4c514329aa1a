/** A metadata value with the type that it is written as, by its number in the format. */
export type GgufEntry = readonly [key: string, type: number, value: unknown];

/** One tensor as its header tells of it. */
export interface GgufTensorParts {
  readonly name: string;
  readonly shape: readonly (number | bigint)[];
  readonly type: number;
  readonly offset: number | bigint;
}

/** What a GGUF file is written from; what is absent follows from the rest. */
export interface GgufParts {
  readonly magic?: string;
  readonly version?: number;
  readonly tensorCount?: bigint;
  readonly entryCount?: bigint;
  readonly entries: readonly GgufEntry[];
  readonly tensors: readonly GgufTensorParts[];
  readonly dataBytes: number;
}

/** Numbers of the format for the types of values, and of one type of tensors. */
export const GGUF = { u32: 4, f32: 6, string: 8, array: 9, tensorF32: 0 } as const;

const ALIGNMENT = 32;

/** The bytes of a GGUF file, as wrong as its parts are. Source: ggml's gguf.md, version 3. */
export function ggufBytes(parts: GgufParts): Uint8Array {
  const out = new Writer();
  out.raw(new TextEncoder().encode(parts.magic ?? "GGUF"));
  out.u32(parts.version ?? 3);
  out.u64(parts.tensorCount ?? parts.tensors.length);
  out.u64(parts.entryCount ?? parts.entries.length);
  for (const [key, type, value] of parts.entries) {
    out.string(key);
    out.u32(type);
    out.value(type, value);
  }
  for (const { name, shape, type, offset } of parts.tensors) {
    out.string(name);
    out.u32(shape.length);
    for (const length of shape) out.u64(length);
    out.u32(type);
    out.u64(offset);
  }
  out.pad(ALIGNMENT);
  out.raw(new Uint8Array(parts.dataBytes));
  return out.bytes();
}

/** A llama of one layer, well-formed and as small as can be; its one tensor fills the data. */
export function tinyGguf(): GgufParts {
  const number = (key: string, value: number): GgufEntry => [`llama.${key}`, GGUF.u32, value];
  return {
    entries: [
      ["general.architecture", GGUF.string, "llama"],
      number("block_count", 1),
      number("embedding_length", 8),
      number("feed_forward_length", 16),
      number("attention.head_count", 2),
      number("context_length", 128),
    ],
    tensors: [
      { name: "blk.0.attn_q.weight", shape: [8, 8], type: GGUF.tensorF32, offset: 0 },
      { name: "blk.0.attn_k.weight", shape: [8, 8], type: GGUF.tensorF32, offset: 256 },
    ],
    dataBytes: 512,
  };
}

class Writer {
  readonly #pieces: Uint8Array[] = [];
  #length = 0;

  raw(bytes: Uint8Array): void {
    this.#pieces.push(bytes);
    this.#length += bytes.length;
  }

  u32(value: number): void {
    this.raw(new Uint8Array(Uint32Array.of(value).buffer));
  }

  u64(value: number | bigint): void {
    this.raw(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.length);
    this.raw(bytes);
  }

  /** Texts, lists of texts, raw bytes and numbers: all that the tests write. */
  value(type: number, value: unknown): void {
    if (value instanceof Uint8Array) this.raw(value);
    else if (typeof value === "string") this.string(value);
    else if (Array.isArray(value)) {
      this.u32(GGUF.string);
      this.u64(value.length);
      for (const one of value) this.string(String(one));
    } else if (type === GGUF.f32) {
      this.raw(new Uint8Array(Float32Array.of(Number(value)).buffer));
    } else this.u32(Number(value));
  }

  pad(alignment: number): void {
    this.raw(new Uint8Array((alignment - this.#length % alignment) % alignment));
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.#length);
    let at = 0;
    for (const piece of this.#pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}
