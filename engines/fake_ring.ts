import { AppError } from "../core/errors.ts";
import type { GroupSpec } from "../core/group.ts";
import { cannotListen, closedBy, didNotConnect, silentFor } from "./group_errors.ts";
import { LineReader } from "./line_reader.ts";

/** How often a neighbour that is not there yet is called again. */
const CALL_MS = 50;

/** How long somebody who calls may take to say who he is. */
const HELLO_MS = 2_000;

/** How often each rank shows the next one that it lives. */
const BEAT_MS = 1_000;

/** Beats that a rank which waits for an answer may miss. */
const MISSED_BEATS_MAX = 5;

const BEAT = "beat";
const WELCOME = "welcome";

/** The neighbours of a rank. */
interface Neighbours {
  readonly before: LineReader;
  readonly after: LineReader;
}

/**
 * Ranks of fake engines that talk over real sockets, as those of real ones do: from each to the
 * next, and from the last to the first.
 */
export class FakeRing {
  readonly rank: number;
  readonly #spec: GroupSpec;
  readonly #neighbours: Neighbours;
  readonly #frames: string[] = [];
  readonly #timer: ReturnType<typeof setInterval>;
  #broken: AppError | undefined;
  #isClosed = false;
  #wake: () => void = () => {};
  #hasHeard = false;
  #missedBeats = 0;
  #awaits = 0;

  private constructor(spec: GroupSpec, neighbours: Neighbours) {
    this.rank = spec.rank;
    this.#spec = spec;
    this.#neighbours = neighbours;
    this.#timer = setInterval(() => this.#beat(), BEAT_MS);
    void this.#listen();
    void this.#watchNext();
  }

  /**
   * Meets the neighbours; `signal` gives up.
   * @throws {AppError} `group_broken` with who is missing after `joinMs`, or why it cannot listen.
   */
  static async join(spec: GroupSpec, joinMs: number, signal: AbortSignal): Promise<FakeRing> {
    const { rank, size, link } = spec;
    if (link.type !== "ring") {
      throw new AppError(
        "unsupported_model",
        "Cannot join: fake engines have no RDMA, a ring needed",
      );
    }
    const [own, next] = [link.hosts[rank], link.hosts[(rank + 1) % size]];
    if (!own || !next) throw new AppError("internal", `Cannot join: no host of rank ${rank}`);
    const listener = listen(own);
    const limit = new AbortController();
    limit.signal.addEventListener("abort", () => closeQuietly(listener));
    const giveUp = () => limit.abort();
    const timer = setTimeout(giveUp, joinMs);
    signal.addEventListener("abort", giveUp);
    if (signal.aborted) giveUp();
    try {
      const [before, after] = await Promise.all([
        answer(listener, spec, limit.signal),
        call(next, spec, limit.signal),
      ]);
      if (before && after) return new FakeRing(spec, { before, after });
      before?.close();
      after?.close();
      const missing = before ? (rank + 1) % size : (rank + size - 1) % size;
      throw didNotConnect(spec, missing, joinMs);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
      // Whoever else is waiting here is not of the group.
      limit.abort();
    }
  }

  /** Whether `take` has something to say. */
  get hasNews(): boolean {
    return this.#frames.length > 0 || this.#broken !== undefined;
  }

  /** The next frame, if one has come. @throws {AppError} `group_broken`, naming who is gone. */
  take(): string | undefined {
    const frame = this.#frames.shift();
    if (frame === undefined && this.#broken) throw this.#broken;
    if (frame !== undefined) this.#awaits = Math.max(0, this.#awaits - 1);
    return frame;
  }

  /** Sends a frame to the next rank. */
  send(frame: string): void {
    if (this.rank === 0) this.#awaits++;
    this.#neighbours.after.write(frame);
  }

  /** Resolves once `hasNews`, or the ring is closed. */
  async arrival(): Promise<void> {
    if (this.hasNews) return;
    await new Promise<void>((resolve) => this.#wake = resolve);
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#neighbours.before.close();
    this.#neighbours.after.close();
    this.#wake();
  }

  async #listen(): Promise<void> {
    const { before } = this.#neighbours;
    for (let line = await before.next(); line !== undefined; line = await before.next()) {
      this.#hasHeard = true;
      if (line === BEAT) continue;
      this.#frames.push(line);
      this.#wake();
    }
    this.#break(closedBy(this.#spec, this.#rankBefore));
  }

  /** The next rank says nothing to this one; that it is gone can be told all the same. */
  async #watchNext(): Promise<void> {
    const { after } = this.#neighbours;
    while (await after.next() !== undefined);
    this.#break(closedBy(this.#spec, (this.rank + 1) % this.#spec.size));
  }

  #beat(): void {
    this.#neighbours.after.write(BEAT);
    this.#missedBeats = this.#hasHeard ? 0 : this.#missedBeats + 1;
    this.#hasHeard = false;
    const isSilent = this.#awaits > 0 && this.#missedBeats >= MISSED_BEATS_MAX;
    if (isSilent) this.#break(silentFor(this.#spec, this.#rankBefore, MISSED_BEATS_MAX * BEAT_MS));
  }

  get #rankBefore(): number {
    const { size } = this.#spec;
    return (this.rank + size - 1) % size;
  }

  #break(why: AppError): void {
    if (this.#isClosed) return;
    this.#broken ??= why;
    this.#wake();
  }
}

function listen({ ip, port }: { readonly ip: string; readonly port: number }): Deno.Listener {
  try {
    return Deno.listen({ hostname: ip, port });
  } catch (cause) {
    throw cannotListen(ip, port, cause);
  }
}

function hello({ groupId }: GroupSpec, rank: number): string {
  return JSON.stringify({ groupId, rank });
}

/** The rank before this one, once it has called; strangers are sent away. */
function answer(
  listener: Deno.Listener,
  spec: GroupSpec,
  limit: AbortSignal,
): Promise<LineReader | undefined> {
  const wanted = hello(spec, (spec.rank + spec.size - 1) % spec.size);
  return new Promise((resolve) => {
    limit.addEventListener("abort", () => resolve(undefined));
    const greet = async (connection: LineReader) => {
      const late = setTimeout(() => connection.close(), HELLO_MS);
      const said = await connection.next();
      clearTimeout(late);
      if (said !== wanted || limit.aborted) return connection.close();
      connection.write(WELCOME);
      resolve(connection);
    };
    void (async () => {
      while (!limit.aborted) {
        const connection = await listener.accept().catch(() => undefined);
        if (!connection) return;
        void greet(new LineReader(connection));
      }
    })();
  });
}

/** The rank after this one, once it has answered. */
async function call(
  { ip, port }: { readonly ip: string; readonly port: number },
  spec: GroupSpec,
  limit: AbortSignal,
): Promise<LineReader | undefined> {
  while (!limit.aborted) {
    const connection = await Deno.connect({ hostname: ip, port }).catch(() => undefined);
    // On one machine a call to a port where nobody listens may be given that very port, and answer.
    if (connection?.localAddr.port === port && connection.localAddr.hostname === ip) {
      connection.close();
    } else if (connection) {
      const reader = new LineReader(connection);
      const giveUp = () => reader.close();
      limit.addEventListener("abort", giveUp);
      reader.write(hello(spec, spec.rank));
      const reply = await reader.next();
      const isMet = reply === WELCOME && !limit.aborted;
      limit.removeEventListener("abort", giveUp);
      if (isMet) return reader;
      reader.close();
    }
    await new Promise<void>((resolve) => setTimeout(resolve, CALL_MS));
  }
  return undefined;
}

function closeQuietly(listener: Deno.Listener): void {
  try {
    listener.close();
  } catch {
    // It is closed already.
  }
}
