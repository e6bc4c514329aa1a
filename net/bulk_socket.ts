import { AppError } from "../core/errors.ts";
import { IDLE_TIMEOUT_MS } from "./bulk_messages.ts";

/** Looks at a socket in one time limit of it. */
const LOOKS = 4;

/** A TLS connection that fails when it does not move, so that nobody waits for it for ever. */
export class BulkSocket implements Disposable {
  readonly #conn: Deno.TlsConn;
  readonly #watch: ReturnType<typeof setInterval>;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #movedAt = performance.now();
  #failure: AppError | undefined;

  constructor(conn: Deno.TlsConn, idleTimeoutMs: number = IDLE_TIMEOUT_MS) {
    this.#conn = conn;
    this.#watch = setInterval(() => {
      if (performance.now() - this.#movedAt < idleTimeoutMs) return;
      this.fail(tooSlow(`nothing has moved for ${idleTimeoutMs / 1000} s`));
    }, idleTimeoutMs / LOOKS);
  }

  /** What comes next must be done in so many milliseconds, whether bytes move or not. */
  within(ms: number, what: string): void {
    this.anyTime();
    this.#deadline = setTimeout(() => this.fail(tooSlow(`${what} took over ${ms / 1000} s`)), ms);
  }

  /** Takes the limit of `within` away. */
  anyTime(): void {
    clearTimeout(this.#deadline);
  }

  /** Breaks the connection: whoever reads or writes gets this error. */
  fail(error: AppError): void {
    if (this.#failure) return;
    this.#failure = error;
    this[Symbol.dispose]();
  }

  /** Some bytes; 0 at the end of what the other side sends. */
  async read(into: Uint8Array): Promise<number> {
    const count = await this.#moving(this.#conn.read(into));
    return count ?? 0;
  }

  /** All bytes of `into`; false when the other side ended before the first. */
  async readAll(into: Uint8Array): Promise<boolean> {
    for (let at = 0; at < into.length;) {
      const count = await this.read(into.subarray(at));
      if (count === 0 && at === 0) return false;
      if (count === 0) throw broken(`it ended after ${at} of ${into.length} bytes`);
      at += count;
    }
    return true;
  }

  async writeAll(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      at += await this.#moving(this.#conn.write(bytes.subarray(at)));
    }
  }

  /** No more bytes from this side. */
  async end(): Promise<void> {
    await this.#moving(this.#conn.closeWrite());
  }

  [Symbol.dispose](): void {
    clearInterval(this.#watch);
    clearTimeout(this.#deadline);
    try {
      this.#conn.close();
    } catch {
      // It is closed already.
    }
  }

  async #moving<T>(operation: Promise<T>): Promise<T> {
    try {
      const result = await operation;
      this.#movedAt = performance.now();
      return result;
    } catch (cause) {
      throw this.#failure ?? broken(cause instanceof Error ? cause.message : String(cause));
    }
  }
}

/** A connection that is not what it should be. */
export function broken(found: string): AppError {
  return new AppError("node_unreachable", `A bulk connection broke: ${found}`, {
    hint: "ask for the bytes again; exo status shows whether the node is there",
  });
}

function tooSlow(found: string): AppError {
  return new AppError("timed_out", `A bulk connection was given up: ${found}`, {
    hint: "exo status shows the link between the two nodes",
  });
}
