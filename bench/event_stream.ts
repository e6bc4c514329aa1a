/**
 * The least client that can tell when each token came: it shares the machine's cores with the
 * servers that it measures. One socket for each request, lines looked at as text, JSON read once.
 */
import { brokenOff, ReplyReader } from "./reply_reader.ts";

/** What becomes of a streamed answer, on the clock of `performance.now()`. */
export interface Streamed {
  readonly sentMs: number;
  /** When each piece of text came. */
  readonly piecesMs: readonly number[];
  /** When the answer ended; undefined of one that was left. */
  readonly endedMs: number | undefined;
  readonly usage: StreamUsage | undefined;
}

/** As the server counts them. */
export interface StreamUsage {
  readonly promptTokens: number;
  /** Of these, taken from a cache. */
  readonly cachedTokens: number;
  readonly completionTokens: number;
}

/** An answer on its way. */
export interface EventStream {
  /** How much text came so far, in pieces. */
  readonly pieceCount: number;
  /** Resolves at the piece of that number, or at the end when it never comes. */
  piece(count: number): Promise<void>;
  /** The whole of it. @throws {AppError} when the server refuses, or breaks off. */
  readonly ended: Promise<Streamed>;
  /** Hangs up; what came until then is the outcome. */
  leave(): void;
}

/** Bytes read at once: many pieces. */
const READ_BYTES = 65_536;

/** Posts `body` to the server's chat completions. */
export function openStream(url: string, body: Readonly<Record<string, unknown>>): EventStream {
  const stream = new Stream(new URL("/v1/chat/completions", url));
  stream.run(JSON.stringify({
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  }));
  return stream;
}

interface Waiter {
  readonly count: number;
  readonly resolve: () => void;
}

class Stream implements EventStream {
  readonly #url: URL;
  readonly #outcome = Promise.withResolvers<Streamed>();
  readonly #reader = new ReplyReader();
  readonly #piecesMs: number[] = [];
  #waiters: Waiter[] = [];
  #usage: StreamUsage | undefined;
  #isOver = false;
  #isLeft = false;
  #connection: Deno.TcpConn | undefined;

  constructor(url: URL) {
    this.#url = url;
    this.ended.catch(() => {}); // Whoever waits for it hears of it.
  }

  get pieceCount(): number {
    return this.#piecesMs.length;
  }

  get ended(): Promise<Streamed> {
    return this.#outcome.promise;
  }

  piece(count: number): Promise<void> {
    if (this.pieceCount >= count) return Promise.resolve();
    const reached = new Promise<void>((resolve) => this.#waiters.push({ count, resolve }));
    return Promise.race([reached, this.ended.then(() => {})]);
  }

  leave(): void {
    this.#isLeft = true;
    this.#close();
  }

  #close(): void {
    try {
      this.#connection?.close();
    } catch {
      // It is closed already.
    }
  }

  run(body: string): void {
    const sentMs = performance.now();
    this.#read(body).then(
      () => this.#settle(sentMs),
      (cause) => this.#isLeft ? this.#settle(sentMs) : this.#outcome.reject(cause),
    ).finally(() => this.#close());
  }

  #settle(sentMs: number): void {
    if (!this.#isOver && !this.#isLeft) {
      return this.#outcome.reject(brokenOff(this.#reader.heldBack));
    }
    const endedMs = this.#isOver ? performance.now() : undefined;
    this.#outcome.resolve({ sentMs, piecesMs: this.#piecesMs, endedMs, usage: this.#usage });
  }

  async #read(body: string): Promise<void> {
    const { hostname, port, host, pathname } = this.#url;
    const connection = await Deno.connect({ hostname, port: Number(port) });
    this.#connection = connection;
    if (this.#isLeft) return;
    connection.setNoDelay(true);
    const bytes = new TextEncoder().encode(body);
    const head = `POST ${pathname} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${bytes.length}\r\n\r\n`;
    await writeAll(connection, new TextEncoder().encode(head));
    await writeAll(connection, bytes);
    const buffer = new Uint8Array(READ_BYTES);
    while (!this.#isOver) {
      const length = await connection.read(buffer);
      if (length === null) return;
      this.#take(buffer.subarray(0, length));
    }
  }

  #take(bytes: Uint8Array): void {
    const now = performance.now();
    for (const line of this.#reader.lines(bytes)) this.#takeLine(line, now);
    this.#waiters = this.#waiters.filter(({ count, resolve }) => {
      const isReached = this.pieceCount >= count;
      if (isReached) resolve();
      return !isReached;
    });
  }

  #takeLine(line: string, now: number): void {
    if (!line.startsWith("data: ")) return;
    if (line === "data: [DONE]") this.#isOver = true;
    else if (line.startsWith('data: {"error"')) throw brokenOff(line);
    // As in `"content":"x`: neither null nor an empty text.
    else if (/"content":"[^"]/.test(line)) this.#piecesMs.push(now);
    if (line.includes('"usage":{')) this.#usage = usageOf(line);
  }
}

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

function usageOf(line: string): StreamUsage {
  const { usage } = JSON.parse(line.slice("data: ".length));
  return {
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    completionTokens: usage.completion_tokens,
  };
}
