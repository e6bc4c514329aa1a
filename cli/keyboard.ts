import process from "node:process";
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import type { Io } from "./io.ts";

/** What a person did at a prompt. */
export type Entry =
  | { readonly type: "line"; readonly text: string }
  /** Ctrl-C on an empty line. */
  | { readonly type: "interrupt" }
  /** Ctrl-D, or the terminal is gone. */
  | { readonly type: "end" };

/** A person at a terminal, who types lines and may press Ctrl-C at any time. */
export interface Keyboard extends Disposable {
  /** Shows `prompt` and waits for the next line; what was typed ahead comes first. */
  ask(prompt: string): Promise<Entry>;
  /** Until the result is disposed, Ctrl-C calls `stop` and ends nothing else. */
  onInterrupt(stop: () => void): Disposable;
}

/** A world that brings a keyboard of its own. */
export interface KeyboardIo extends Io {
  openKeyboard(): Keyboard;
}

/** The keyboard of a world: its own, else the terminal of this process. */
export function keyboardOf(io: Io | KeyboardIo): Keyboard {
  return "openKeyboard" in io ? io.openKeyboard() : new LineEditor(io);
}

/**
 * Lines edited by `node:readline`, with their history. The terminal stays in raw mode between two
 * prompts, so that Ctrl-C reaches us as a key and not all processes as a signal.
 */
export class LineEditor implements Keyboard {
  readonly #io: Io;
  readonly #lines: ReturnType<typeof createInterface>;
  readonly #typedAhead: string[] = [];
  #waiting: ((entry: Entry) => void) | undefined;
  #stop: (() => void) | undefined;
  #isClosed = false;
  readonly #close = () => this.#lines.close();

  constructor(io: Io, input: NodeJS.ReadableStream = process.stdin) {
    this.#io = io;
    this.#lines = createInterface({ input, output: this.#output(), terminal: true });
    this.#lines.on("line", (text) => this.#onLine(text));
    this.#lines.on("SIGINT", () => this.#onInterrupt());
    this.#lines.on("close", () => {
      this.#isClosed = true;
      this.#answer({ type: "end" });
    });
    io.signal.addEventListener("abort", this.#close);
  }

  ask(prompt: string): Promise<Entry> {
    const text = this.#typedAhead.shift();
    if (text !== undefined) {
      this.#io.stderr.write(`${prompt}${text}\n`);
      return Promise.resolve({ type: "line", text });
    }
    if (this.#isClosed) return Promise.resolve({ type: "end" });
    const { promise, resolve } = Promise.withResolvers<Entry>();
    this.#waiting = resolve;
    this.#lines.setPrompt(prompt);
    this.#lines.prompt(true);
    return promise;
  }

  onInterrupt(stop: () => void): Disposable {
    this.#stop = stop;
    return { [Symbol.dispose]: () => this.#stop = undefined };
  }

  [Symbol.dispose](): void {
    this.#io.signal.removeEventListener("abort", this.#close);
    this.#lines.close();
  }

  /** Shows what is edited, and only then: keys pressed during an answer stay out of its text. */
  #output(): Writable {
    const { stderr } = this.#io;
    const output = new Writable({
      decodeStrings: false,
      write: (text, _encoding, done) => {
        if (this.#waiting) stderr.write(String(text));
        done();
      },
    });
    return Object.defineProperty(output, "columns", { get: () => stderr.columns });
  }

  #onLine(text: string): void {
    if (this.#waiting) this.#answer({ type: "line", text });
    else this.#typedAhead.push(text);
  }

  #onInterrupt(): void {
    this.#typedAhead.length = 0;
    if (!this.#waiting) return this.#stop?.();
    if (this.#lines.line === "") return this.#answer({ type: "interrupt" });
    // As shells do: the line is given up, the prompt stays.
    for (const name of ["e", "u"]) this.#lines.write("", { ctrl: true, name });
  }

  #answer(entry: Entry): void {
    this.#waiting?.(entry);
    this.#waiting = undefined;
  }
}
