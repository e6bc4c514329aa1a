import { within } from "./eventually.ts";

const MAIN = new URL("./side_channel_peer_main.ts", import.meta.url).pathname;

/** How long a round may take on a busy machine. */
const PATIENCE_MS = 20_000;

/** A process that stands for a runner. */
export class Peer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(args: readonly string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", MAIN, ...args],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** What it tells of its next round. */
  async line(): Promise<string> {
    while (!this.#text.includes("\n")) {
      const { value, done } = await within("a round", this.#lines.read(), PATIENCE_MS);
      if (done) throw new Error(`the stand-in ended after "${this.#text}"`);
      this.#text += value;
    }
    const [line = "", ...rest] = this.#text.split("\n");
    this.#text = rest.join("\n");
    return line;
  }

  async lines(count: number): Promise<string[]> {
    const lines = [];
    while (lines.length < count) lines.push(await this.line());
    return lines;
  }

  /** Ends it by force. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.#lines.cancel();
    await this.#child.stdin.abort().catch(() => {});
    await this.#child.status;
  }
}

/** A runner that needs a side channel to join its group. */
export const SIDE_CHANNEL_RUNNER =
  new URL("./side_channel_runner_main.ts", import.meta.url).pathname;
