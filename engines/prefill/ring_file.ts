import { AppError } from "../../core/errors.ts";
import { type Ring, ringPieces } from "../../core/ring.ts";

/** Fills a ring that it makes itself: nobody else may read it. */
export class RingWriter implements Disposable {
  readonly #ring: Ring;
  readonly #file: Deno.FsFile;
  #written = 0;
  #taken = 0;

  constructor(ring: Ring) {
    this.#ring = ring;
    this.#file = Deno.openSync(ring.path, { write: true, createNew: true, mode: 0o600 });
  }

  /** Bytes so far. */
  get written(): number {
    return this.#written;
  }

  /** Bytes that can be written now. */
  get room(): number {
    return this.#ring.bytes - (this.#written - this.#taken);
  }

  /** The other side has taken so many bytes by now. */
  taken(bytes: number): void {
    this.#taken = Math.min(Math.max(this.#taken, bytes), this.#written);
  }

  /**
   * There must be room for it in the ring.
   * @throws {AppError} `storage_failed` where there is none in its folder; nothing counts as written.
   */
  write(bytes: Uint8Array): void {
    try {
      this.#write(bytes);
    } catch (cause) {
      const found = cause instanceof Error ? cause.message : String(cause);
      throw new AppError("storage_failed", `Cannot write to ${this.#ring.path}: ${found}`, {
        hint: "give /dev/shm more room: docker run --shm-size 1g",
        cause,
      });
    }
  }

  #write(bytes: Uint8Array): void {
    let at = 0;
    for (const { offset, length } of ringPieces(this.#ring.bytes, this.#written, bytes.length)) {
      this.#file.seekSync(offset, Deno.SeekMode.Start);
      const end = at + length;
      while (at < end) at += this.#file.writeSync(bytes.subarray(at, end));
    }
    this.#written += bytes.length;
  }

  /** Takes the file's name away, if the reader has not come for it. */
  discard(): void {
    try {
      Deno.removeSync(this.#ring.path);
    } catch {
      // It has.
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** Empties a ring that somebody else fills. */
export class RingReader implements Disposable {
  readonly #ring: Ring;
  readonly #file: Deno.FsFile;
  #read = 0;
  #there = 0;

  /** Takes the file's name away: it is gone with the last of the two that have it open. */
  constructor(ring: Ring) {
    this.#ring = ring;
    this.#file = Deno.openSync(ring.path, { read: true });
    Deno.removeSync(ring.path);
  }

  /** Bytes that were read so far. */
  get read(): number {
    return this.#read;
  }

  /** Bytes that can be read now. */
  get available(): number {
    return this.#there - this.#read;
  }

  /** The other side has written so many bytes by now. */
  arrived(bytes: number): void {
    this.#there = Math.min(Math.max(this.#there, bytes), this.#read + this.#ring.bytes);
  }

  /** Fills `into` with the bytes that come next, which must be there; they stay to be read. */
  peek(into: Uint8Array): void {
    let at = 0;
    for (const { offset, length } of ringPieces(this.#ring.bytes, this.#read, into.length)) {
      this.#file.seekSync(offset, Deno.SeekMode.Start);
      const end = at + length;
      while (at < end) {
        const count = this.#file.readSync(into.subarray(at, end));
        if (!count) throw new RangeError(`the ring ${this.#ring.path} ends before its bytes do`);
        at += count;
      }
    }
  }

  /** The bytes that come next, which must be there. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    this.peek(bytes);
    this.#read += length;
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
