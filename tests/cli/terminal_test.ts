import { equal, match, ok } from "node:assert/strict";
import { type Asked, FINISH, token } from "../support/fake_gateway.ts";
import { FakeNode } from "./fake_io.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;

/** Gives a command a terminal of its own, whose keys are our stdin and whose screen our stdout. */
const PTY =
  "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])) & 255)";

/** A prompt that waits: the cursor is set behind it. */
const PROMPT = "> \x1b[3G";

/** `exo` on a terminal. */
class Terminal implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #screen: ReadableStreamDefaultReader<string>;
  readonly #keys: WritableStreamDefaultWriter<Uint8Array>;

  constructor(...args: readonly string[]) {
    this.#child = new Deno.Command("python3", {
      args: ["-c", PTY, Deno.execPath(), "run", "-A", "--no-check", MAIN, ...args],
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

Deno.test("On a terminal Ctrl-C stops the answer, then ends the chat with 130", async () => {
  await using node = new FakeNode();
  node.gateway.placeModel();
  const cancelled = Promise.withResolvers<void>();
  const usual = node.gateway.answer;
  node.gateway.answer = async function* ({ signal }: Asked) {
    node.gateway.answer = usual;
    signal.addEventListener("abort", () => cancelled.resolve());
    yield token("Once upon");
    await cancelled.promise;
    yield FINISH;
  };
  await using terminal = new Terminal("run", "tiny", "--url", node.url);
  match(await terminal.until(PROMPT), /Chat with local\/tiny-0123abcd/);
  await terminal.press("tell me\r");
  await terminal.until("Once upon");
  await terminal.press("\x03");
  await cancelled.promise;
  match(await terminal.until(PROMPT), /Stopped/);
  await terminal.press("again\r");
  match(await terminal.until(PROMPT), /Hello world/);
  equal(node.gateway.asked.length, 2);
  await terminal.press("\x03");
  ok(!(await terminal.until("error:")).includes("error:"));
  equal(await terminal.code(), 130);
});

Deno.test("On a terminal Ctrl-D ends the chat with 0", async () => {
  await using node = new FakeNode();
  node.gateway.placeModel();
  await using terminal = new Terminal("run", "tiny", "--url", node.url);
  await terminal.until(PROMPT);
  await terminal.press("\x04");
  await terminal.until("\x00");
  equal(await terminal.code(), 0);
});
