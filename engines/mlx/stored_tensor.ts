import { AppError, assert } from "../../core/errors.ts";
import { type Dtype, fromBytes, type Tensor } from "../../ffi/mod.ts";
import { fileName, readRows } from "../text/files.ts";
import { type Cut, lengthOf } from "./weight_cuts.ts";

/** The types of safetensors that are read in part, as ours, and their bytes. */
const DTYPES: ReadonlyMap<string, { readonly dtype: Dtype; readonly item: number }> = new Map([
  ["F32", { dtype: "float32", item: 4 }],
  ["F16", { dtype: "float16", item: 2 }],
  ["BF16", { dtype: "bfloat16", item: 2 }],
  ["U8", { dtype: "uint8", item: 1 }],
  ["U32", { dtype: "uint32", item: 4 }],
]);

/** Where a tensor lies in a safetensors file. */
export interface StoredTensor {
  readonly path: string;
  readonly name: string;
  /** As the format has it. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Of its first byte, from the start of the file. */
  readonly offset: number;
}

/**
 * A part of a tensor, of which only its own bytes are read.
 * @throws {AppError} `load_failed` when it cannot be read, `unsupported_model` or `corrupt_model`
 * when there is no such part of it.
 */
export function readPart(stored: StoredTensor | undefined, { outputs, inputs }: Cut): Tensor {
  assert(stored, "a tensor that MLX has read is in its file's header");
  const { path, name, offset, shape } = stored;
  const [height = 0, width = 1] = shape;
  const [rows, columns] = [outputs ?? { from: 0, to: height }, inputs ?? { from: 0, to: width }];
  const type = DTYPES.get(stored.dtype);
  const file = fileName(path);
  if (!type) {
    const hint = "choose a checkpoint in BF16, F16 or F32, or one that MLX has quantised";
    const message = `Cannot load a part of tensor "${name}" of "${file}": it has type ` +
      `${stored.dtype}, one of ${[...DTYPES.keys()].join(", ")} needed`;
    throw new AppError("unsupported_model", message, { hint });
  }
  if (shape.length > 2 || rows.to > height || columns.to > width) {
    const message = `Cannot load a part of tensor "${name}" of "${file}": it is [${shape}], at ` +
      `least [${rows.to}, ${columns.to}] needed`;
    throw new AppError("corrupt_model", message, {
      hint: "the weights and config.json are of two models; fetch both from one place again",
    });
  }
  const { dtype, item } = type;
  const bytes = readRows(path, {
    offset: offset + (rows.from * width + columns.from) * item,
    count: lengthOf(rows),
    bytes: lengthOf(columns) * item,
    stride: width * item,
  });
  const part = [lengthOf(rows), ...(shape.length > 1 ? [lengthOf(columns)] : [])];
  return fromBytes(bytes, part, dtype);
}
