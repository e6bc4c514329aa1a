import { AppError, type ErrorInfo } from "../core/errors.ts";
import { type Ring, ringPieces } from "../core/ring.ts";
import { BLOCK_BYTES, FLOW_MS } from "./bulk_messages.ts";
import { nextPiece, PieceWriter, SIGN_MS } from "./bulk_pieces.ts";
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
  #error: ErrorInfo | undefined;
  #wake: () => void = () => {};

  get bytes(): number {
    return this.#bytes;
  }

  get end(): "done" | "broken" | undefined {
    return this.#end;
  }

  /** Why it is broken, if that is known. */
  get error(): ErrorInfo | undefined {
    return this.#error;
  }

  note(bytes: number, end?: "done" | "broken", error?: ErrorInfo): void {
    this.#bytes = Math.max(this.#bytes, bytes);
    this.#end ??= end;
    this.#error ??= error;
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

  /** Waits for news, `ms` at most; whether there were none. */
  async isSilentFor(ms: number): Promise<boolean> {
    let isSilent = false;
    const timer = setTimeout(() => {
      isSilent = true;
      this.#wake();
    }, ms);
    await this.news();
    clearTimeout(timer);
    return isSilent;
  }
}

/** How far the processes at both ends of a ring are. */
export interface RingEnds {
  readonly flow: RingFlow;
  readonly tell: (bytes: number) => void;
}

/**
 * Sends what another process writes into a ring, until it has written all, with signs of life while
 * it writes nothing. Its name is taken away: the file is gone with the last of the two that have it
 * open.
 * @throws {AppError} when the connection breaks, or does not move.
 */
export async function sendRing(
  socket: BulkSocket,
  ring: Ring,
  { flow, tell }: RingEnds,
): Promise<void> {
  let isGone = false;
  // A receiver sends nothing: this ends when it is gone, or is too slow.
  const gone = socket.readAll(new Uint8Array(1)).catch(() => {}).then(() => {
    isGone = true;
    flow.wake();
  });
  using teller = new Teller(tell);
  using file = new LateFile(ring.path);
  const writer = new PieceWriter(socket);
  for (let sent = 0; sent < flow.bytes || flow.end !== "done";) {
    if (flow.end === "broken" && flow.error && !isGone) await writer.refuse(flow.error);
    if (isGone || flow.end === "broken") throw broken("a stream ended before its last byte");
    if (sent === flow.bytes) {
      if (await flow.isSilentFor(SIGN_MS)) await writer.send(0);
      continue;
    }
    const [piece] = ringPieces(ring.bytes, sent, Math.min(flow.bytes - sent, BLOCK_BYTES));
    const block = writer.room.subarray(0, piece?.length);
    await readFully(await file.open(), block, piece?.offset ?? 0);
    await writer.send(block.length);
    teller.note(sent += block.length);
  }
  teller.flush();
  await socket.end();
  await gone;
}

/** A file that is opened when it is first read, and loses its name then. */
class LateFile implements Disposable {
  readonly #path: string;
  #file: Deno.FsFile | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async open(): Promise<Deno.FsFile> {
    if (this.#file) return this.#file;
    this.#file = await Deno.open(this.#path, { read: true });
    await Deno.remove(this.#path);
    return this.#file;
  }

  [Symbol.dispose](): void {
    this.#file?.close();
  }
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
 * @throws {AppError} when the connection breaks, or does not move, or nobody wants more, or what the
 * other side says in place of more.
 */
export async function receiveRing(
  socket: BulkSocket,
  ring: Ring,
  { flow, tell }: RingEnds,
): Promise<number> {
  using file = await Deno.open(ring.path, { write: true, createNew: true, mode: 0o600 });
  using teller = new Teller(tell);
  const buffer = new Uint8Array(BLOCK_BYTES);
  let received = 0;
  for (;;) {
    const piece = await nextPiece(socket);
    if (piece === undefined) {
      teller.flush();
      return received;
    }
    for (const end = received + piece; received < end;) {
      const room = await roomIn(ring, received, flow);
      const count = await socket.read(buffer.subarray(0, Math.min(room, end - received)));
      if (count === 0) throw broken(`it ended ${end - received} bytes before the end of a piece`);
      await writeInto(file, { ring, at: received }, buffer.subarray(0, count));
      teller.note(received += count);
    }
  }
}

/** Bytes that there is room for, once there is. @throws {AppError} when nobody wants more. */
async function roomIn(ring: Ring, received: number, flow: RingFlow): Promise<number> {
  for (;;) {
    if (flow.end) throw new AppError("cancelled", "The transfer was cancelled");
    const room = ring.bytes - (received - flow.bytes);
    if (room > 0) return room;
    await flow.news();
  }
}

async function writeInto(
  file: Deno.FsFile,
  { ring, at }: { readonly ring: Ring; readonly at: number },
  bytes: Uint8Array,
): Promise<void> {
  let written = 0;
  for (const { offset, length } of ringPieces(ring.bytes, at, bytes.length)) {
    await file.seek(offset, Deno.SeekMode.Start);
    const end = written + length;
    while (written < end) written += await file.write(bytes.subarray(written, end));
  }
}
