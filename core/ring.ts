/** Least bytes of a ring: several records fit into it. */
export const RING_BYTES_MIN = 8 * 1024 * 1024;

/** Most bytes of a ring. */
export const RING_BYTES_MAX = 1024 * 1024 * 1024;

/** A file of fixed length, whose byte `i` stands for bytes `i`, `i + bytes`, … of a stream. */
export interface Ring {
  readonly path: string;
  readonly bytes: number;
}

/** Bytes of a stream that lie next to each other in its ring. */
export interface RingPiece {
  /** Where in the file. */
  readonly offset: number;
  readonly length: number;
}

/** Where `length` bytes of the stream lie, from byte `at` on: in one piece or two. */
export function ringPieces(ringBytes: number, at: number, length: number): RingPiece[] {
  const offset = at % ringBytes;
  const first = Math.min(length, ringBytes - offset);
  const pieces = [{ offset, length: first }];
  if (first < length) pieces.push({ offset: 0, length: length - first });
  return pieces;
}
