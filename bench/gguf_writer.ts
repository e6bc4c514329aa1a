/** A metadata value with the type that it is written as. */
export type GgufWritten =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly string: string }
  | { readonly strings: readonly string[] }
  | { readonly i32s: readonly number[] }
  | { readonly f32s: readonly number[] };

/** Tensor types that are written, with their number and their blocks. Source: ggml-common.h. */
export const WRITTEN_TYPES = {
  F32: { number: 0, values: 1, bytes: 4 },
  Q4_1: { number: 3, values: 32, bytes: 20 },
} as const;

/** A tensor on its way into a file. */
export interface WrittenTensor {
  readonly name: string;
  /** Innermost length first. */
  readonly shape: readonly number[];
  readonly type: keyof typeof WRITTEN_TYPES;
}

/** Bytes of a tensor's data; what follows begins at the next multiple of {@linkcode ALIGNMENT}. */
export function tensorBytes({ shape, type }: WrittenTensor): number {
  const { values, bytes } = WRITTEN_TYPES[type];
  return shape.reduce((product, length) => product * length, 1) / values * bytes;
}

/** Where each tensor's data begin: multiples of this, the format's default. */
export const ALIGNMENT = 32;

/** Up to the next multiple of the alignment. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/**
 * The head of a GGUF file: what comes before the tensors' data, which follow in the same order.
 * Source: ggml's gguf.md, version 3.
 */
export function ggufHead(
  entries: Readonly<Record<string, GgufWritten>>,
  tensors: readonly WrittenTensor[],
): Uint8Array<ArrayBuffer> {
  const out = new Writer();
  out.bytes(new TextEncoder().encode("GGUF"));
  out.u32(3);
  out.u64(tensors.length);
  out.u64(Object.keys(entries).length);
  for (const [key, value] of Object.entries(entries)) {
    out.string(key);
    out.value(value);
  }
  let offset = 0;
  for (const tensor of tensors) {
    out.string(tensor.name);
    out.u32(tensor.shape.length);
    for (const length of tensor.shape) out.u64(length);
    out.u32(WRITTEN_TYPES[tensor.type].number);
    out.u64(offset);
    offset += aligned(tensorBytes(tensor));
  }
  return out.whole();
}

/** Numbers of the format for the types of values. */
const [I32, U32, F32, BOOL, STRING, ARRAY] = [5, 4, 6, 7, 8, 9];

/** Little-endian values one after another. */
class Writer {
  readonly #text = new TextEncoder();
  #data = new Uint8Array(1 << 20);
  #length = 0;

  /** Makes room; returns the place and a view of it. */
  #take(bytes: number): [view: DataView, at: number] {
    const at = this.#length;
    this.#length += bytes;
    if (this.#length > this.#data.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#data);
      this.#data = larger;
    }
    return [new DataView(this.#data.buffer), at];
  }

  bytes(bytes: Uint8Array): void {
    const [, at] = this.#take(bytes.length);
    this.#data.set(bytes, at);
  }

  u32(value: number): void {
    const [view, at] = this.#take(4);
    view.setUint32(at, value, true);
  }

  i32(value: number): void {
    const [view, at] = this.#take(4);
    view.setInt32(at, value, true);
  }

  f32(value: number): void {
    const [view, at] = this.#take(4);
    view.setFloat32(at, value, true);
  }

  u64(value: number): void {
    const [view, at] = this.#take(8);
    view.setBigUint64(at, BigInt(value), true);
  }

  string(text: string): void {
    const bytes = this.#text.encode(text);
    this.u64(bytes.length);
    this.bytes(bytes);
  }

  value(value: GgufWritten): void {
    if ("u32" in value) return this.#plain(U32, () => this.u32(value.u32));
    if ("f32" in value) return this.#plain(F32, () => this.f32(value.f32));
    if ("bool" in value) return this.#plain(BOOL, () => this.bytes(Uint8Array.of(+value.bool)));
    if ("string" in value) return this.#plain(STRING, () => this.string(value.string));
    if ("strings" in value) return this.#array(STRING, value.strings, (one) => this.string(one));
    if ("i32s" in value) return this.#array(I32, value.i32s, (one) => this.i32(one));
    return this.#array(F32, value.f32s, (one) => this.f32(one));
  }

  #plain(type: number, write: () => void): void {
    this.u32(type);
    write();
  }

  #array<T>(type: number, values: readonly T[], write: (value: T) => void): void {
    this.u32(ARRAY);
    this.u32(type);
    this.u64(values.length);
    for (const value of values) write(value);
  }

  /** All of it, filled up to the alignment. */
  whole(): Uint8Array<ArrayBuffer> {
    this.#take(aligned(this.#length) - this.#length);
    return this.#data.slice(0, this.#length);
  }
}
