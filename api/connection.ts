import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";

/** Most bytes that are taken from a client at once; each connection has a buffer of this size. */
const READ_BYTES = 16_384;

type Done = (error?: Error | null) => void;

/**
 * A connection that `Deno.listen` accepted, as the stream that `node:http` serves. A client that
 * takes nothing of what it is sent for `unreadMs` has its connection closed.
 */
export class Connection extends Duplex {
  /** For routes that ask where a request comes from. */
  readonly remoteAddress: string;
  readonly #socket: Deno.TcpConn;
  readonly #unreadMs: number;
  readonly #buffer = new Uint8Array(READ_BYTES);
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  #requestTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(socket: Deno.TcpConn, unreadMs: number) {
    super();
    this.remoteAddress = socket.remoteAddr.hostname;
    this.#socket = socket;
    this.#unreadMs = unreadMs;
    try {
      // Tokens are small, and each is waited for.
      socket.setNoDelay(true);
    } catch {
      // A client that is gone already, which the first read finds out.
    }
  }

  /**
   * As `node:http` calls it: emits `timeout` in `ms`, or never for 0. Bytes do not put it off, as
   * they do for a socket: `node:http` sets it anew where that matters.
   */
  setTimeout(ms: number): this {
    clearTimeout(this.#idleTimer);
    if (this.destroyed) return this;
    if (ms > 0) this.#idleTimer = setTimeout(() => this.emit("timeout"), ms);
    return this;
  }

  /**
   * Closes the connection unless its newest request is complete within `ms`. Those before it are
   * complete, since a head is read only after the body before it.
   */
  limitRequest(request: { readonly complete: boolean }, ms: number): void {
    clearTimeout(this.#requestTimer);
    if (this.destroyed) return;
    const end = () => {
      if (!request.complete) this.destroy();
    };
    this.#requestTimer = setTimeout(end, ms);
  }

  /** As `node:http` calls it: closes the connection once all is sent. */
  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once("finish", () => this.destroy());
  }

  override async _read(): Promise<void> {
    try {
      const count = await this.#socket.read(this.#buffer);
      if (this.destroyed) return;
      this.push(count === null ? null : this.#buffer.slice(0, count));
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  override _write(bytes: Uint8Array, _encoding: string, done: Done): void {
    void this.#sendAll(bytes, done);
  }

  /** The parts of a chunk in one packet. */
  override _writev(parts: { chunk: Uint8Array }[], done: Done): void {
    void this.#sendAll(Buffer.concat(parts.map(({ chunk }) => chunk)), done);
  }

  async #sendAll(bytes: Uint8Array, done: Done): Promise<void> {
    try {
      for (let at = 0; at < bytes.length;) at += await this.#send(bytes.subarray(at));
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  /** How many bytes the system took: it takes none while the client reads nothing. */
  async #send(bytes: Uint8Array): Promise<number> {
    const timer = setTimeout(() => this.destroy(), this.#unreadMs);
    try {
      return await this.#socket.write(bytes);
    } finally {
      clearTimeout(timer);
    }
  }

  override async _final(done: Done): Promise<void> {
    // A client that is gone needs not be told that there is no more.
    await this.#socket.closeWrite().catch(() => {});
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    clearTimeout(this.#idleTimer);
    clearTimeout(this.#requestTimer);
    this.#socket.close();
    done(error);
  }
}
