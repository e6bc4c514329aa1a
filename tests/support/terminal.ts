/** Gives a command a terminal of its own, whose keys are our stdin and whose screen our stdout. */
const PTY =
  "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])) & 255)";

/** A prompt of the chat that waits: the cursor is set behind it. */
export const PROMPT = "> \x1b[3G";

/** A command on a terminal of its own. */
export class Terminal implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #screen: ReadableStreamDefaultReader<string>;
  readonly #keys: WritableStreamDefaultWriter<Uint8Array>;

  constructor(command: readonly string[], options: Pick<Deno.CommandOptions, "env" | "cwd"> = {}) {
    this.#child = new Deno.Command("python3", {
      ...options,
      args: ["-c", PTY, ...command],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#screen = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#keys = this.#child.stdin.getWriter();
  }

  async press(keys: string): Promise<void> {
    await this.#keys.write(new TextEncoder().encode(keys));
  }

  /** What the screen got until `words` came, or until its end. */
  async until(words: string): Promise<string> {
    let shown = "";
    while (!shown.includes(words)) {
      const { value, done } = await this.#screen.read();
      if (done) break;
      shown += value;
    }
    return shown;
  }

  async code(): Promise<number> {
    return (await this.#child.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#keys.close().catch(() => {});
    await this.#screen.cancel();
    await this.#child[Symbol.asyncDispose]();
  }
}
