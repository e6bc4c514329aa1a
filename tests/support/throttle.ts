import { setTimeout } from "node:timers/promises";

/** How often a piece is passed on. */
const STEP_MS = 10;

/** A way to a port of this machine that carries so many bytes a second there, and all back. */
export class Throttle implements Disposable {
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #conns: Deno.Conn[] = [];

  constructor(port: number, bytesPerSecond: number) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    void this.#serve(port, bytesPerSecond);
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const conn of this.#conns) conn.close();
  }

  async #serve(port: number, bytesPerSecond: number): Promise<void> {
    try {
      for await (const here of this.#listener) {
        const there = await Deno.connect({ hostname: "127.0.0.1", port });
        this.#conns.push(here, there);
        void pass(here, there, bytesPerSecond * STEP_MS / 1000);
        void pass(there, here);
      }
    } catch {
      // Closed.
    }
  }
}

/** Passes on what comes, a piece every `STEP_MS` where it has a size. */
async function pass(from: Deno.Conn, to: Deno.Conn, pieceBytes?: number): Promise<void> {
  const piece = new Uint8Array(pieceBytes ?? 65_536);
  const startedAt = performance.now();
  try {
    let sent = 0;
    for (let count = await from.read(piece); count !== null; count = await from.read(piece)) {
      for (let at = 0; at < count;) at += await to.write(piece.subarray(at, count));
      sent += count;
      if (pieceBytes === undefined) continue;
      const ahead = startedAt + sent / pieceBytes * STEP_MS - performance.now();
      if (ahead > 0) await setTimeout(ahead);
    }
    await to.closeWrite();
  } catch {
    // Either end has gone.
  }
}
