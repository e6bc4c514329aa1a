import { within } from "./eventually.ts";
import { TextLineStream } from "./text_lines.ts";

const MAIN = new URL("./mlx_rank_main.ts", import.meta.url).pathname;

/** How long a rank may take for what it is told. */
const PATIENCE_MS = 40_000;

/** Often enough that ports which others took in between are no reason to fail. */
const ATTEMPTS_MAX = 4;

/** A rank of a group, in a process of its own. */
export class MlxRank implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #lines: ReadableStreamDefaultReader<string>;

  constructor(spec: unknown, timeoutMs: number) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", MAIN, JSON.stringify(spec), String(timeoutMs)],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream()).getReader();
  }

  /** What the rank tells next. */
  async told(): Promise<unknown> {
    const { value, done } = await within("a rank", this.#lines.read(), PATIENCE_MS);
    if (done) throw new Error("The rank has ended");
    return JSON.parse(value);
  }

  /** Tells it what to do, and gives what came of it. */
  async does(action: string, ...args: readonly number[]): Promise<unknown> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify([action, ...args])}\n`));
    return await this.told();
  }

  /** Ends it by force. */
  async kill(): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#lines.cancel();
    await this.#input.abort().catch(() => {});
  }
}

/** A port of the loopback that nobody has, at this moment. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** What the ranks of a group over loopback are told, by rank. */
export function ringSpecs(size: number): { rank: number }[] {
  const hosts = Array.from({ length: size }, () => ({ ip: "127.0.0.1", port: freePort() }));
  const names = hosts.map((_, rank) => `node ${rank}`);
  return hosts.map((_, rank) => ({
    ...{ groupId: "test", rank, size, names },
    link: { type: "ring", hosts },
  }));
}

/** So many ranks that have met; tried anew where a port was taken meanwhile. */
export class MlxRanks implements AsyncDisposable {
  private constructor(readonly ranks: readonly MlxRank[]) {}

  static async start(size: number): Promise<MlxRanks> {
    let found: unknown;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const ranks = new MlxRanks(ringSpecs(size).map((spec) => new MlxRank(spec, PATIENCE_MS / 2)));
      const met = await Promise.all(ranks.ranks.map((rank) => rank.told()));
      if (met.every(Array.isArray)) return ranks;
      found = met;
      await ranks[Symbol.asyncDispose]();
    }
    throw new Error(`The ranks do not meet: ${JSON.stringify(found)}`);
  }

  /** All do the same, at once. */
  all(action: string, ...args: readonly number[]): Promise<unknown[]> {
    return Promise.all(this.ranks.map((rank) => rank.does(action, ...args)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.ranks.map((rank) => rank[Symbol.asyncDispose]()));
  }
}
