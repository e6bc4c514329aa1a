/**
 * Named pipes that never block the event loop, whether anybody is at the other end or not. Each
 * side also holds the other end open, so that opening waits for nobody and a peer that comes late,
 * or is gone, is neither an end nor an error. Waiting is done by a thread of Deno's pool, since
 * Deno cannot poll a named pipe (`net.Socket` on one fails: it registers both directions); a wait
 * is ended from this side, by a byte to read or by room to write.
 */
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { AppError } from "../core/errors.ts";

const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants;

/** Most bytes that are read or written at once: as many as a pipe holds on Linux. */
const BYTES_AT_ONCE = 65_536;

/** How long the system may take to make named pipes. */
const MAKE_TIMEOUT_MS = 10_000;

/** Makes named pipes for this user alone. @throws {AppError} `storage_failed` with the reason. */
export async function makeFifos(...paths: readonly string[]): Promise<void> {
  const what = `Cannot make the named pipes ${paths.join(", ")}`;
  try {
    const { success, stderr } = await new Deno.Command("mkfifo", {
      args: ["-m", "600", ...paths],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      signal: AbortSignal.timeout(MAKE_TIMEOUT_MS),
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr).trim());
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new AppError("storage_failed", `${what}: ${reason}`, {
      hint: "mkfifo must be on the path, and the folder for temporary files writable",
      cause,
    });
  }
}

/** The reading end of a named pipe. */
export class FifoReader {
  readonly #file: Deno.FsFile;
  /** Keeps the pipe from ending, and wakes a read that waits. */
  readonly #writeEnd: number;
  #reading: Promise<unknown> = Promise.resolve();
  #rest = new Uint8Array();
  #isClosed = false;

  /** Opens a pipe that is there; waits for no writer. */
  constructor(path: string) {
    const readEnd = openSync(path, O_RDONLY | O_NONBLOCK);
    this.#writeEnd = openSync(path, O_WRONLY | O_NONBLOCK);
    this.#file = Deno.openSync(path, { read: true });
    closeSync(readEnd);
  }

  /** The next `count` bytes; undefined once this is closed. One read at a time. */
  async readExactly(count: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count;) {
      if (this.#rest.length === 0) await this.#fill();
      if (this.#isClosed) return undefined;
      const part = this.#rest.subarray(0, count - at);
      bytes.set(part, at);
      at += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    return this.#isClosed ? undefined : bytes;
  }

  async #fill(): Promise<void> {
    if (this.#isClosed) return;
    const buffer = new Uint8Array(BYTES_AT_ONCE);
    const reading = this.#file.read(buffer);
    this.#reading = reading;
    this.#rest = buffer.subarray(0, await reading ?? 0);
  }

  /** Ends a read that waits; resolves when nothing is open any more. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    unlessBusy(() => writeSync(this.#writeEnd, new Uint8Array(1)));
    await this.#reading.catch(() => {});
    this.#file.close();
    closeSync(this.#writeEnd);
  }
}

/** The writing end of a named pipe. */
export class FifoWriter {
  readonly #file: Deno.FsFile;
  /** Keeps the pipe whole while nobody reads, and makes room for a write that waits. */
  readonly #readEnd: number;
  #writing: Promise<void> | undefined;
  #isClosed = false;

  /** Opens a pipe that is there; waits for no reader. */
  constructor(path: string) {
    this.#readEnd = openSync(path, O_RDONLY | O_NONBLOCK);
    this.#file = Deno.openSync(path, { write: true });
  }

  /** Resolves once all bytes are in the pipe, or this is closed. One write at a time. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#writing = this.#writeAll(bytes);
    await this.#writing;
    this.#writing = undefined;
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length && !this.#isClosed;) {
      at += await this.#file.write(bytes.subarray(at, at + BYTES_AT_ONCE));
    }
  }

  /** Ends a write that waits, whose bytes are lost; resolves when nothing is open any more. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    let isOver = this.#writing === undefined;
    const over = this.#writing?.catch(() => {}).then(() => isOver = true);
    const room = new Uint8Array(BYTES_AT_ONCE);
    while (!isOver) {
      unlessBusy(() => readSync(this.#readEnd, room));
      await setImmediate();
    }
    await over;
    this.#file.close();
    closeSync(this.#readEnd);
  }
}

/** A pipe that is full, or empty, says so: then nobody waits for what was to be done. */
function unlessBusy(act: () => void): void {
  try {
    act();
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EAGAIN")) throw cause;
  }
}
