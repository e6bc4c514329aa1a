import { AppError } from "../core/errors.ts";
import {
  BLOCK_BYTES,
  BULK_SERVER_NAME,
  type BulkTarget,
  CONNECT_TIMEOUT_MS,
  MEASURE_BYTES_MAX,
  MEASURE_BYTES_MIN,
  MEASURE_MS_MAX,
  MEASURE_ROUND_MS,
} from "./bulk_messages.ts";
import {
  decodeResult,
  encodePreface,
  encodeRound,
  RESULT_BYTES,
  type RoundResult,
} from "./bulk_preface.ts";
import { broken, BulkSocket } from "./bulk_socket.ts";

/** Takes blocks in order. */
export interface BlockSink {
  /** Where the next block may be put: of `BLOCK_BYTES`. */
  room(): Promise<Uint8Array<ArrayBuffer>>;
  /** A block, in the room that was given for it. */
  take(block: Uint8Array<ArrayBuffer>): Promise<void>;
}

/**
 * Connects, and shows the token. Only the holder of the key to the granted certificate can answer.
 * @throws {AppError} `node_unreachable` when nobody or somebody else is there.
 */
export async function dialBulk(
  { host, grant: { port, certificatePem, token } }: BulkTarget,
  signal: AbortSignal,
): Promise<BulkSocket> {
  let socket: BulkSocket | undefined;
  try {
    const tcp = await connected(host, port, signal);
    const tls = await Deno.startTls(tcp, {
      hostname: BULK_SERVER_NAME,
      caCerts: [certificatePem],
    });
    const made = socket = new BulkSocket(tls);
    signal.addEventListener("abort", () => made.fail(cancelled()), { once: true });
    made.within(CONNECT_TIMEOUT_MS, "the handshake");
    await made.writeAll(encodePreface(token));
    made.anyTime();
    return made;
  } catch (cause) {
    socket?.[Symbol.dispose]();
    if (signal.aborted) throw cancelled();
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new AppError("node_unreachable", `Cannot connect to ${host}:${port}: ${found}`, {
      hint: "let firewalls pass TCP from node to node, to ports that the system gives out",
      cause,
    });
  }
}

/** A system may go on trying for minutes. */
async function connected(
  hostname: string,
  port: number,
  signal: AbortSignal,
): Promise<Deno.TcpConn> {
  const connecting = Deno.connect({ hostname, port });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `no answer within ${CONNECT_TIMEOUT_MS / 1000} s`;
    timer = setTimeout(() => reject(new Error(message)), CONNECT_TIMEOUT_MS);
    signal.addEventListener("abort", () => reject(cancelled()), { once: true });
  });
  try {
    return await Promise.race([connecting, late]);
  } catch (cause) {
    connecting.then((conn) => conn.close(), () => {});
    throw cause;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Reads the bytes of an offer.
 * @throws {AppError} `node_unreachable`, `timed_out`; what has come by then is incomplete.
 */
export async function receiveBytes(
  socket: BulkSocket,
  bytes: number,
  sink: BlockSink,
): Promise<number> {
  let left = bytes;
  while (left > 0) {
    const room = await sink.room();
    const block = room.subarray(0, Math.min(left, BLOCK_BYTES));
    if (!await socket.readAll(block)) {
      throw broken(`it ended after ${bytes - left} of ${bytes} bytes`);
    }
    left -= block.length;
    await sink.take(block);
  }
  return bytes;
}

/**
 * Sends rounds, each twice as long as the one before, until two in a row are long enough to be told;
 * the other side says what arrived in which time, so that round trips do not count. The better of
 * both is told: a machine that is busy for a moment makes a link seem slower, never faster.
 * @returns bits per second. Links that are faster than one core encrypts are faster than this.
 */
export async function measure(socket: BulkSocket): Promise<number> {
  socket.within(MEASURE_MS_MAX + CONNECT_TIMEOUT_MS, "a measurement");
  let [bytes, left] = [MEASURE_BYTES_MIN, MEASURE_BYTES_MAX];
  let before: RoundResult | undefined;
  for (;;) {
    left -= bytes;
    const result = await round(socket, bytes);
    const isLong = result.elapsedMs >= MEASURE_ROUND_MS;
    const isCut = result.bytes < bytes;
    if (!isLong) bytes *= 2;
    if (isCut || (isLong && before) || left < bytes) {
      return rateOf(before ? [before, result] : [result]);
    }
    before = isLong ? result : undefined;
  }
}

async function round(socket: BulkSocket, bytes: number): Promise<RoundResult> {
  await socket.writeAll(encodeRound(bytes));
  // When time is up the other side answers before all is sent, and reads no more of it.
  const sending = sendZeros(socket, bytes).catch(() => {});
  const reply = new Uint8Array(RESULT_BYTES);
  if (!await socket.readAll(reply)) throw broken("it ended before the result of a measurement");
  const result = decodeResult(reply, bytes);
  if (!result) throw broken("the result of a measurement cannot be one");
  if (result.bytes === bytes) await sending;
  return result;
}

async function sendZeros(socket: BulkSocket, bytes: number): Promise<void> {
  const block = new Uint8Array(BLOCK_BYTES);
  for (let left = bytes; left > 0; left -= BLOCK_BYTES) {
    await socket.writeAll(block.subarray(0, Math.min(left, BLOCK_BYTES)));
  }
}

/** The best of what can be told. */
function rateOf(results: readonly RoundResult[]): number {
  const rates = results.filter(({ bytes, elapsedMs }) => bytes > 0 && elapsedMs > 0)
    .map(({ bytes, elapsedMs }) => bytes * 8 * 1_000 / elapsedMs);
  if (rates.length > 0) return Math.max(...rates);
  throw broken("too few bytes arrived in a measurement to tell how fast the link is");
}

function cancelled(): AppError {
  return new AppError("cancelled", "The transfer was cancelled");
}
