/** Lists of int32 on their way to C, in buffers that are filled again at each call. */
import type { Tensor } from "./tensor.ts";

/** Longer lists of lengths or axes than any tensor has. */
const LENGTH_MAX = 64;

/** The first list of a call. */
export const FIRST = new Int32Array(LENGTH_MAX);
/** The second list of a call. */
export const SECOND = new Int32Array(LENGTH_MAX);
/** The third list of a call. */
export const THIRD = new Int32Array(LENGTH_MAX);

/** One axis, several, or all of them. */
export type Axes = number | readonly number[] | undefined;

/**
 * Copies numbers into one of the buffers and returns how many they are.
 * @throws {RangeError} if they are too many.
 */
export function fill(buffer: Int32Array, values: readonly number[]): number {
  if (values.length > LENGTH_MAX) {
    throw new RangeError(
      `Cannot pass ${values.length} lengths or axes to MLX: ${LENGTH_MAX} are the limit`,
    );
  }
  for (let i = 0; i < values.length; i++) buffer[i] = values[i] as number;
  return values.length;
}

/** Copies axes into FIRST and returns how many they are, -1 for all. */
export function fillAxes(axes: Axes): number {
  if (axes === undefined) return -1;
  if (typeof axes !== "number") return fill(FIRST, axes);
  FIRST[0] = axes;
  return 1;
}

/** The handles of tensors as a list for C. */
export function handles(tensors: readonly Tensor[]): Int32Array<ArrayBuffer> {
  const list = tensors.length <= LENGTH_MAX ? FIRST : new Int32Array(tensors.length);
  for (let i = 0; i < tensors.length; i++) list[i] = (tensors[i] as Tensor).handle;
  return list;
}
