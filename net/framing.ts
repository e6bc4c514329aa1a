import { AppError } from "../core/errors.ts";

/** Bytes in front of each frame: its length. */
const HEADER_BYTES = 4;

/** Bodies up to this are copied behind their header: one write costs less than two. */
const COPY_BYTES_MAX = 64 * 1024;

/** So many pieces of fewer bytes than this become one: each costs more than its bytes. */
const CHUNKS_MAX = 1_024;
const CHUNK_BYTES = 1_024;

/** A frame, in the pieces in which it is to be written: its length, a byte that tells its kind, a body. */
export function frame(kind: number, body: Uint8Array = new Uint8Array()): Uint8Array[] {
  const isCopied = body.length <= COPY_BYTES_MAX;
  const head = new Uint8Array(HEADER_BYTES + 1 + (isCopied ? body.length : 0));
  new DataView(head.buffer).setUint32(0, 1 + body.length, true);
  head[HEADER_BYTES] = kind;
  if (!isCopied) return [head, body];
  head.set(body, HEADER_BYTES + 1);
  return [head];
}

/** Cuts a stream of bytes into frames: u32 LE length, then as many bytes. */
export class FrameReader {
  readonly #bytesMax: number;
  #chunks: Uint8Array[] = [];
  /** Bytes in `#chunks`. */
  #held = 0;
  /** Of the frame that is being read; undefined while its header is not complete. */
  #length: number | undefined;

  /** No frame is longer than `bytesMax`. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Pieces of memory in which the frame that is being read is held. */
  get pieceCount(): number {
    return this.#chunks.length;
  }

  /**
   * The frames that are complete with these bytes.
   * @throws {AppError} `payload_too_large` when a frame says that it is longer than the limit.
   */
  push(bytes: Uint8Array): Uint8Array[] {
    if (bytes.length > 0) this.#chunks.push(bytes);
    this.#held += bytes.length;
    const isSplit = this.#chunks.length >= CHUNKS_MAX &&
      this.#held < this.#chunks.length * CHUNK_BYTES;
    if (isSplit) this.#chunks = [this.#join(this.#held)];
    const frames: Uint8Array[] = [];
    while (true) {
      if (this.#length === undefined) {
        const header = this.#take(HEADER_BYTES);
        if (!header) return frames;
        this.#length = this.#checked(
          new DataView(header.buffer, header.byteOffset).getUint32(0, true),
        );
      }
      const frame = this.#take(this.#length);
      if (!frame) return frames;
      this.#length = undefined;
      frames.push(frame);
    }
  }

  #checked(length: number): number {
    if (length <= this.#bytesMax) return length;
    const found = `found a frame of ${length} bytes, ${this.#bytesMax} at most`;
    throw new AppError("payload_too_large", `Cannot read what a peer sends: ${found}`);
  }

  /** The next `count` bytes, once they have come. */
  #take(count: number): Uint8Array | undefined {
    if (this.#held < count) return undefined;
    this.#held -= count;
    const [first] = this.#chunks;
    if (first && first.length > count) {
      this.#chunks[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    if (first?.length === count) {
      this.#chunks.shift();
      return first;
    }
    return this.#join(count);
  }

  #join(count: number): Uint8Array {
    const joined = new Uint8Array(count);
    let filled = 0;
    let used = 0;
    for (const chunk of this.#chunks) {
      if (filled === count) break;
      const part = chunk.subarray(0, count - filled);
      joined.set(part, filled);
      filled += part.length;
      if (part.length < chunk.length) this.#chunks[used] = chunk.subarray(part.length);
      else used++;
    }
    this.#chunks.splice(0, used);
    return joined;
  }
}
