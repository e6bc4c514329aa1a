import { AppError } from "../core/errors.ts";
import { type Ring, ringPieces } from "../core/ring.ts";
import { BLOCK_BYTES, FLOW_MS } from "./bulk_messages.ts";
import { broken, type BulkSocket } from "./bulk_socket.ts";

/** Tells a count now and then: soon after it has changed, and not more often than that. */
class Teller implements Disposable {
  readonly #tell: (bytes: number) => void;
  #bytes = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(tell: (bytes: number) => void) {
    this.#tell = tell;
  }

  note(bytes: number): void {
    this.#bytes = bytes;
    this.#timer ??= setTimeout(() => this.flush(), FLOW_MS);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#tell(this.#bytes);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

/** How far the process at the other end of a ring is, as the main thread has told. */
export class RingFlow {
  #bytes = 0;
  #end: "done" | "broken" | undefined;
  #wake: () => void = () => {};

  get bytes(): number {
    return this.#bytes;
  }

  get end(): "done" | "broken" | undefined {
    return this.#end;
  }

  note(bytes: number, end?: "done" | "broken"): void {
    this.#bytes = Math.max(this.#bytes, bytes);
    this.#end ??= end;
    this.#wake();
  }

  /** Ends the wait of whoever waits. */
  wake(): void {
    this.#wake();
  }

  /** Resolves with the next `note` or `wake`. */
  news(): Promise<void> {
    return new Promise((resolve) => this.#wake = resolve);
  }
}

/**
 * Sends what another process writes into a ring, until it has written all. Its name is taken away:
 * the file is gone with the last of the two that have it open.
 * @throws {AppError} when the connection breaks, or does not move.
 */
export async function sendRing(
  socket: BulkSocket,
  ring: Ring,
  { flow, tell }: { flow: RingFlow; tell: (bytes: number) => void },
): Promise<void> {
  let isGone = false;
  // A receiver sends nothing: this ends when it is gone, or is too slow.
  const gone = socket.readAll(new Uint8Array(1)).catch(() => {}).then(() => {
    isGone = true;
    flow.wake();
  });
  using teller = new Teller(tell);
  const buffer = new Uint8Array(BLOCK_BYTES);
  let file: Deno.FsFile | undefined;
  try {
    for (let sent = 0; sent < flow.bytes || flow.end !== "done";) {
      if (isGone || flow.end === "broken") throw broken("a stream ended before its last byte");
      if (sent === flow.bytes) {
        await flow.news();
        continue;
      }
      file ??= await opened(ring.path);
      const [piece] = ringPieces(ring.bytes, sent, Math.min(flow.bytes - sent, BLOCK_BYTES));
      const block = buffer.subarray(0, piece?.length);
      await readFully(file, block, piece?.offset ?? 0);
      await socket.writeAll(block);
      teller.note(sent += block.length);
    }
    teller.flush();
    await socket.end();
  } finally {
    file?.close();
  }
  await gone;
}

async function opened(path: string): Promise<Deno.FsFile> {
  const file = await Deno.open(path, { read: true });
  await Deno.remove(path);
  return file;
}

async function readFully(file: Deno.FsFile, into: Uint8Array, offset: number): Promise<void> {
  await file.seek(offset, Deno.SeekMode.Start);
  for (let at = 0; at < into.length;) {
    const count = await file.read(into.subarray(at));
    if (!count) throw broken("a ring file is shorter than what was written");
    at += count;
  }
}

/**
 * Receives a stream into a ring that it makes, as far as another process has taken bytes out.
 * @returns the number of bytes, once the other side has ended.
 * @throws {AppError} when the connection breaks, or does not move, or nobody wants more.
 */
export async function receiveRing(
  socket: BulkSocket,
  ring: Ring,
  { flow, tell }: { flow: RingFlow; tell: (bytes: number) => void },
): Promise<number> {
  using file = await Deno.open(ring.path, { write: true, createNew: true, mode: 0o600 });
  using teller = new Teller(tell);
  const buffer = new Uint8Array(BLOCK_BYTES);
  for (let received = 0;;) {
    if (flow.end) throw new AppError("cancelled", "The transfer was cancelled");
    const room = ring.bytes - (received - flow.bytes);
    if (room === 0) {
      await flow.news();
      continue;
    }
    const count = await socket.read(buffer.subarray(0, Math.min(room, BLOCK_BYTES)));
    if (count === 0) {
      teller.flush();
      return received;
    }
    let at = 0;
    for (const { offset, length } of ringPieces(ring.bytes, received, count)) {
      await file.seek(offset, Deno.SeekMode.Start);
      const end = at + length;
      while (at < end) at += await file.write(buffer.subarray(at, end));
    }
    teller.note(received += count);
  }
}
