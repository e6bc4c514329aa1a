/** The piece of a rank in a round: all byte values in turn, begun where no other piece begins. */
export function pieceOf(
  rank: number,
  sequence: number,
  byteCount: number,
): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: byteCount }, (_, at) => rank * 101 + sequence * 7 + at);
}
