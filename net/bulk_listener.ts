import { newCertificate } from "./bulk_certificate.ts";
import { BulkGrants } from "./bulk_grants.ts";
import {
  BLOCK_BYTES,
  type BulkDoor,
  type BulkOrder,
  type BulkSource,
  CONNECT_TIMEOUT_MS,
  CONNECTIONS_MAX,
  MEASURE_BYTES_MAX,
  MEASURE_MS_MAX,
} from "./bulk_messages.ts";
import {
  decodePreface,
  decodeRound,
  encodeResult,
  PREFACE_BYTES,
  ROUND_BYTES,
} from "./bulk_preface.ts";
import { broken, BulkSocket } from "./bulk_socket.ts";
import { type RingFlow, sendRing } from "./bulk_stream.ts";

/** Wait after a connection that could not be accepted. */
const ACCEPT_RETRY_MS = 100;

/** How long a side may take to close after the last byte. */
const CLOSE_TIMEOUT_MS = 2_000;

type SourceOf<T extends BulkSource["type"]> = Extract<BulkSource, { type: T }>;

/** What does not grow any more. */
type StillSource = Exclude<BulkSource, SourceOf<"Ring">>;

/** Streams that are sent while others still write them. */
export interface Streams {
  flowOf(streamId: number): RingFlow;
  /** So many bytes have gone; `isOver`: the connection has, too. */
  sent(streamId: number, bytes: number, isOver: boolean): void;
}

/** The door of a node: a TLS listener that opens to whoever shows a token, and to nobody else. */
export class BulkListener {
  readonly door: BulkDoor;
  readonly #listener: Deno.TlsListener;
  readonly #grants = new BulkGrants();
  readonly #streams: Streams;
  #connections = 0;

  private constructor(door: BulkDoor, listener: Deno.TlsListener, streams: Streams) {
    [this.door, this.#listener, this.#streams] = [door, listener, streams];
    void this.#accept();
  }

  /** Listens on a free port of every address, with a certificate of its own. */
  static async open(streams: Streams): Promise<BulkListener> {
    const { certificatePem, keyPem } = await newCertificate();
    const listener = listen({ port: 0, cert: certificatePem, key: keyPem });
    return new BulkListener({ port: listener.addr.port, certificatePem }, listener, streams);
  }

  /**
   * Opens the door once to whoever shows the token.
   * @throws {AppError} `queue_full`.
   */
  grant({ peer, token, purpose, lifetimeMs }: Extract<BulkOrder, { type: "Grant" }>): BulkDoor {
    const now = performance.now();
    this.#grants.add(token, { peer, purpose, expiresAt: now + lifetimeMs }, now);
    return this.door;
  }

  async #accept(): Promise<void> {
    for (;;) {
      let conn: Deno.TlsConn;
      try {
        conn = await this.#listener.accept();
      } catch {
        // As one that was reset before it was accepted; or no descriptor is left for now.
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_RETRY_MS));
        continue;
      }
      if (this.#connections >= CONNECTIONS_MAX) conn.close();
      else void this.#serve(conn);
    }
  }

  /** Whoever has no token gets no byte, and learns nothing from how it is refused. */
  async #serve(conn: Deno.TlsConn): Promise<void> {
    this.#connections++;
    using socket = new BulkSocket(conn);
    try {
      socket.within(CONNECT_TIMEOUT_MS, "the handshake and the token");
      const preface = new Uint8Array(PREFACE_BYTES);
      if (!await socket.readAll(preface)) return;
      const token = decodePreface(preface);
      const purpose = token && this.#grants.take(token, performance.now());
      if (!purpose) return;
      socket.anyTime();
      if (purpose.type === "Measure") await receiveRounds(socket);
      else if (purpose.source.type === "Ring") await this.#sendRing(socket, purpose.source);
      else await send(socket, purpose.source);
    } catch {
      // The other side notices by itself, and asks again if it still wants the bytes.
    } finally {
      this.#connections--;
    }
  }

  async #sendRing(socket: BulkSocket, { streamId, ring }: SourceOf<"Ring">): Promise<void> {
    const flow = this.#streams.flowOf(streamId);
    try {
      const tell = (bytes: number) => this.#streams.sent(streamId, bytes, false);
      await sendRing(socket, ring, { flow, tell });
    } finally {
      this.#streams.sent(streamId, 0, true);
    }
  }
}

/** IPv6 takes both families where a machine has it. */
function listen(options: { port: number; cert: string; key: string }) {
  try {
    return Deno.listenTls({ hostname: "::", ...options });
  } catch {
    return Deno.listenTls({ hostname: "0.0.0.0", ...options });
  }
}

async function send(socket: BulkSocket, source: StillSource): Promise<void> {
  for await (const block of blocksOf(source)) await socket.writeAll(block);
  await socket.end();
  // Until the other side has read all of it: closing earlier could reset what is under way.
  socket.within(CLOSE_TIMEOUT_MS, "the other side's end");
  await socket.readAll(new Uint8Array(1));
}

/** Each block is valid until the next is asked for. */
async function* blocksOf(source: StillSource): AsyncGenerator<Uint8Array> {
  if (source.type === "Memory") {
    for (let at = 0; at < source.bytes.length; at += BLOCK_BYTES) {
      yield source.bytes.subarray(at, at + BLOCK_BYTES);
    }
    return;
  }
  const buffer = new Uint8Array(BLOCK_BYTES);
  using file = await Deno.open(source.path);
  for (const { offset, length } of source.ranges) {
    await file.seek(offset, Deno.SeekMode.Start);
    for (let left = length; left > 0;) {
      const count = await file.read(buffer.subarray(0, Math.min(left, BLOCK_BYTES)));
      if (!count) throw broken(`${source.path} has become shorter`);
      yield buffer.subarray(0, count);
      left -= count;
    }
  }
}

/** Counts what arrives, round after round, until the other side knows enough or time is up. */
async function receiveRounds(socket: BulkSocket): Promise<void> {
  const [head, buffer] = [new Uint8Array(ROUND_BYTES), new Uint8Array(BLOCK_BYTES)];
  let left = MEASURE_BYTES_MAX;
  socket.within(MEASURE_MS_MAX + CONNECT_TIMEOUT_MS, "a measurement");
  let endsAt: number | undefined;
  while (await socket.readAll(head)) {
    const bytes = decodeRound(head, left);
    if (bytes === undefined) return;
    const startedAt = performance.now();
    endsAt ??= startedAt + MEASURE_MS_MAX;
    let [received, now] = [0, startedAt];
    while (received < bytes && now < endsAt) {
      const count = await socket.read(buffer.subarray(0, Math.min(bytes - received, BLOCK_BYTES)));
      if (count === 0) return;
      received += count;
      now = performance.now();
    }
    await socket.writeAll(encodeResult({ bytes: received, elapsedMs: now - startedAt }));
    left -= received;
    if (received < bytes) return await drain(socket, buffer);
  }
}

/** A close with unread bytes would be a reset, which may overtake the result. */
async function drain(socket: BulkSocket, buffer: Uint8Array): Promise<void> {
  socket.within(CLOSE_TIMEOUT_MS, "the other side's end");
  while (await socket.read(buffer) > 0);
}
