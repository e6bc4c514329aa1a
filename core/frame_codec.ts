import { FRAME_BYTES_MAX, FRAME_PREFIX_BYTES } from "./frames.ts";

/** One message between node and runner: a JSON header and raw bytes. */
export interface Frame {
  readonly header: unknown;
  readonly body: Uint8Array;
}

const EMPTY = new Uint8Array(0);

/**
 * A frame as bytes: u32 header length, u32 body length (little-endian), UTF-8 JSON header, body.
 * @throws {RangeError} when it is larger than `FRAME_BYTES_MAX`.
 */
export function encodeFrame(header: unknown, body: Uint8Array = EMPTY): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const bytes = FRAME_PREFIX_BYTES + json.length + body.length;
  if (bytes > FRAME_BYTES_MAX) {
    throw new RangeError(`Cannot frame ${bytes} bytes: ${FRAME_BYTES_MAX} at most`);
  }
  const frame = new Uint8Array(bytes);
  const view = new DataView(frame.buffer);
  view.setUint32(0, json.length, true);
  view.setUint32(4, body.length, true);
  frame.set(json, FRAME_PREFIX_BYTES);
  frame.set(body, FRAME_PREFIX_BYTES + json.length);
  return frame;
}

/** Bytes of the frame that begins with these. @throws {RangeError} when none does. */
export function decodePrefix(prefix: Uint8Array): number {
  return lengthsOf(prefix).total;
}

function lengthsOf(prefix: Uint8Array): { headerBytes: number; total: number } {
  const view = new DataView(prefix.buffer, prefix.byteOffset, FRAME_PREFIX_BYTES);
  const headerBytes = view.getUint32(0, true);
  const total = FRAME_PREFIX_BYTES + headerBytes + view.getUint32(4, true);
  if (headerBytes === 0) throw new RangeError("Cannot read a frame without a header");
  if (total > FRAME_BYTES_MAX) {
    throw new RangeError(`Cannot read a frame of ${total} bytes: ${FRAME_BYTES_MAX} at most`);
  }
  return { headerBytes, total };
}

/** Cuts a stream of bytes, in whatever pieces it comes, into frames. */
export class FrameDecoder {
  /** What has come and is in no frame yet: the first of it, and what came later. */
  #first: Uint8Array = EMPTY;
  #later: Uint8Array[] = [];
  /** Bytes of both. */
  #length = 0;

  /**
   * The frames that `bytes` completes.
   * @throws {RangeError | SyntaxError} when the stream is not one of frames; it cannot go on then.
   */
  push(bytes: Uint8Array): Frame[] {
    if (this.#length === 0) this.#first = bytes;
    else this.#later.push(bytes);
    this.#length += bytes.length;
    const frames: Frame[] = [];
    while (this.#length >= FRAME_PREFIX_BYTES) {
      const { headerBytes, total } = lengthsOf(this.#atLeast(FRAME_PREFIX_BYTES));
      if (this.#length < total) break;
      const frame = this.#take(total).subarray(FRAME_PREFIX_BYTES);
      const json = new TextDecoder("utf-8", { fatal: true }).decode(frame.subarray(0, headerBytes));
      frames.push({ header: JSON.parse(json), body: frame.subarray(headerBytes) });
    }
    return frames;
  }

  /** The first `count` bytes in one piece, and what lies behind them there. */
  #atLeast(count: number): Uint8Array {
    if (this.#first.length < count) this.#join();
    return this.#first;
  }

  #take(count: number): Uint8Array {
    const bytes = this.#atLeast(count);
    this.#first = bytes.length > count ? bytes.subarray(count) : EMPTY;
    this.#length -= count;
    return bytes.subarray(0, count);
  }

  #join(): void {
    const all = new Uint8Array(this.#length);
    let at = 0;
    for (const piece of [this.#first, ...this.#later]) {
      all.set(piece, at);
      at += piece.length;
    }
    [this.#first, this.#later] = [all, []];
  }
}
