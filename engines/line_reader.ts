/** Longest line; who sends a longer one is cut off. */
const LINE_BYTES_MAX = 8_192;

/** A connection that carries lines, one way or both. */
export class LineReader {
  readonly #connection: Deno.Conn;
  readonly #lines: string[] = [];
  #partial = "";
  #writing: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  /** The next line; undefined once there will be none. */
  async next(): Promise<string | undefined> {
    const bytes = new Uint8Array(LINE_BYTES_MAX);
    while (this.#lines.length === 0) {
      const count = await this.#connection.read(bytes).catch(() => null);
      if (count === null) return undefined;
      const pieces = (this.#partial + new TextDecoder().decode(bytes.subarray(0, count)))
        .split("\n");
      this.#partial = pieces.pop() ?? "";
      if (this.#partial.length > LINE_BYTES_MAX) return undefined;
      this.#lines.push(...pieces);
    }
    return this.#lines.shift();
  }

  /** Sends a line; what cannot be sent is seen as the end of the connection. */
  write(line: string): void {
    const bytes = new TextEncoder().encode(`${line}\n`);
    this.#writing = this.#writing.then(() => this.#write(bytes)).catch(() => {});
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      this.#connection.close();
    } catch {
      // The other end was faster.
    }
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let sent = 0; sent < bytes.length;) {
      sent += await this.#connection.write(bytes.subarray(sent));
    }
  }
}
