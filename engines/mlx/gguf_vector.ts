import { AppError } from "../../core/errors.ts";
import { fromArray, type Tensor } from "../../ffi/mod.ts";
import { fileName, readRange } from "../text/files.ts";

/** How each plain GGML type reads as f32. */
const READERS: Readonly<Record<string, (bytes: Uint8Array<ArrayBuffer>) => Float32Array>> = {
  F32: ({ buffer }) => new Float32Array(buffer),
  F16: ({ buffer }) => Float32Array.from(new Float16Array(buffer)),
  // The upper half of an f32.
  BF16: ({ buffer }) => {
    const words = Uint32Array.from(new Uint16Array(buffer), (half) => half << 16);
    return new Float32Array(words.buffer);
  },
};

/** A vector in a GGUF file. */
export interface GgufVector {
  /** Of its first byte, from the start of the file. */
  readonly offset: number;
  /** GGML's name of its type. */
  readonly type: string;
  readonly length: number;
}

/**
 * Reads a vector of a GGUF file, as f32 [length].
 * @throws {AppError} `load_failed` when it cannot be read, `unsupported_model` when it is quantised.
 */
export function readVector(path: string, { offset, type, length }: GgufVector): Tensor {
  const read = READERS[type];
  if (!read) {
    throw new AppError(
      "unsupported_model",
      `Cannot load "${fileName(path)}": it has a vector of type ${type}, F32, F16 or BF16 needed`,
      { hint: "choose a file whose norms and biases are not quantised" },
    );
  }
  const bytes = readRange(path, offset, length * (type === "F32" ? 4 : 2));
  return fromArray(read(bytes)).keep();
}
