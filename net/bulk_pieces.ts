/**
 * How a stream goes over its socket: pieces of a u32 length, little-endian, and as many bytes. An
 * empty piece is a sign of life while nothing is there to be sent. A refusal comes last, if at all.
 */
import { AppError, ErrorInfo } from "../core/errors.ts";
import { shortError } from "../core/short_text.ts";
import { BLOCK_BYTES, IDLE_TIMEOUT_MS } from "./bulk_messages.ts";
import { broken, type BulkSocket } from "./bulk_socket.ts";

/** Bytes of a length. */
const HEAD_BYTES = 4;

/** In place of a length: a refusal follows, as a piece. */
const REFUSAL = 0xffff_ffff;

/** Longest refusal. */
const REFUSAL_BYTES_MAX = 32 * 1024;

/** How often a stream gives a sign of life: a few may be late before it is taken for dead. */
export const SIGN_MS = IDLE_TIMEOUT_MS / 4;

/**
 * How long a stream may give nothing but signs of life: a prompt waits for those before it. Whoever
 * wants it has it sooner by itself then.
 */
export const SILENCE_MS_MAX = 300_000;

type Socket = Pick<BulkSocket, "readAll" | "writeAll">;

/** Sends pieces, which it has memory for. */
export class PieceWriter {
  readonly #socket: Socket;
  readonly #buffer = new Uint8Array(HEAD_BYTES + BLOCK_BYTES);

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Where the bytes of the next piece go, from the first on. */
  get room(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(HEAD_BYTES);
  }

  /** Sends so many bytes of `room`; none are a sign of life. */
  async send(length: number): Promise<void> {
    await this.#send(length, length);
  }

  /** Says why no more comes. */
  async refuse(error: ErrorInfo): Promise<void> {
    await this.#send(REFUSAL, 0);
    const text = new TextEncoder().encode(JSON.stringify(shortError(error)));
    this.room.set(text);
    await this.send(text.length);
  }

  async #send(head: number, length: number): Promise<void> {
    new DataView(this.#buffer.buffer).setUint32(0, head, true);
    await this.#socket.writeAll(this.#buffer.subarray(0, HEAD_BYTES + length));
  }
}

/**
 * The length of the next piece that has bytes; undefined at the end of the stream.
 * @throws {AppError} the refusal that came in its place; `timed_out` after too many signs of life.
 */
export async function nextPiece(socket: Socket): Promise<number | undefined> {
  const since = performance.now();
  for (;;) {
    const length = await headOf(socket);
    if (length === REFUSAL) throw await refusal(socket);
    if (length !== undefined && length > BLOCK_BYTES) {
      throw broken(`it has a piece of ${length} bytes`);
    }
    if (length !== 0) return length;
    requirePatience(performance.now() - since);
  }
}

function requirePatience(silentMs: number): void {
  if (silentMs < SILENCE_MS_MAX) return;
  const found = `nothing came for ${Math.round(silentMs / 1000)} s`;
  throw new AppError("timed_out", `A stream was given up: ${found}`, {
    hint: "link more instances that prefill, or fewer that ask them: exo status",
  });
}

async function headOf(socket: Socket): Promise<number | undefined> {
  const head = new Uint8Array(HEAD_BYTES);
  const isThere = await socket.readAll(head);
  return isThere ? new DataView(head.buffer).getUint32(0, true) : undefined;
}

async function refusal(socket: Socket): Promise<AppError> {
  const length = await headOf(socket) ?? 0;
  if (length > REFUSAL_BYTES_MAX) throw broken(`it has a refusal of ${length} bytes`);
  const text = new Uint8Array(length);
  if (!await socket.readAll(text)) throw broken("it ended within a refusal");
  try {
    return AppError.from(shortError(ErrorInfo.parse(JSON.parse(new TextDecoder().decode(text)))));
  } catch {
    throw broken("it has a refusal that nobody can read");
  }
}
