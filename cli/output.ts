import cliProgress from "cli-progress";
import Table from "cli-table3";
import type { AppError } from "../core/errors.ts";
import type { Io, Sink } from "./io.ts";

/** Shortest time between two progress lines where there is no terminal. */
const PROGRESS_LINE_MS = 2_000;

/** Widest bar, in characters; a narrow terminal gets what is left beside its words. */
const BAR_WIDTH_MAX = 30;

/** How far something is; without `total` only its label is known. */
export interface Progress {
  readonly label: string;
  readonly done?: number | undefined;
  readonly total?: number | undefined;
}

/** What a command says: results on stdout, everything else on stderr. */
export class Output<Result = unknown> {
  readonly isJson: boolean;
  readonly #io: Io;
  #bar: cliProgress.SingleBar | undefined;
  #lastLine = "";
  #lastUpdate: string | undefined;
  #lastLineAt = -Infinity;

  constructor(io: Io, { isJson }: { isJson: boolean }) {
    this.#io = io;
    this.isJson = isJson;
  }

  /** The result, once: a line of JSON with `--json`, else words for people. */
  result(json: Result, words: string): void {
    this.endProgress();
    const text = this.isJson ? JSON.stringify(json) : words;
    if (text !== "") this.#io.stdout.write(`${text}\n`);
  }

  /**
   * A result that goes on to change: with `--json` a line at each change, on a terminal a screen
   * that is drawn anew, elsewhere one block of words after the other.
   */
  update(json: Result, words: string): void {
    this.endProgress();
    const text = this.isJson ? JSON.stringify(json) : words;
    const before = this.#lastUpdate;
    if (text === before) return;
    this.#lastUpdate = text;
    const { stdout, env } = this.#io;
    if (this.isJson) stdout.write(`${text}\n`);
    else if (isSmart(stdout, env)) stdout.write(redrawn(text, before === undefined));
    else stdout.write(`${before === undefined ? "" : "\n"}${text}\n`);
  }

  /** A piece of a result that people read while it is made; nothing with `--json`. */
  text(piece: string): void {
    this.endProgress();
    if (!this.isJson) this.#io.stdout.write(piece);
  }

  /** A remark beside the result; nothing with `--json`, whose stderr is for the error alone. */
  note(words: string): void {
    if (this.isJson) return;
    this.endProgress();
    this.#io.stderr.write(`${words}\n`);
  }

  /** A bar on a terminal, now and then a line elsewhere. */
  progress({ label, done, total }: Progress): void {
    if (this.isJson) return;
    const isCounted = done !== undefined && total !== undefined && total > 0;
    // What is over before it was told of needs no word.
    const isNews = this.#bar !== undefined || this.#lastLine.startsWith(label);
    if (isCounted && done >= total && !isNews) return;
    const { stderr, env } = this.#io;
    if (isSmart(stderr, env) && isCounted) return this.#draw(label, done, total);
    this.#line(isCounted ? `${label} ${done}/${total}` : label, label);
  }

  /** Takes the bar away; what follows starts on a line of its own. */
  endProgress(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  #draw(label: string, done: number, total: number): void {
    if (!this.#bar) {
      const { columns } = this.#io.stderr;
      const words = `${label}  ${total}/${total} `.length;
      this.#bar = new cliProgress.SingleBar({
        format: "{label} {bar} {value}/{total}",
        barCompleteChar: "█",
        barIncompleteChar: "░",
        barsize: Math.max(1, Math.min(BAR_WIDTH_MAX, columns - words)),
        hideCursor: true,
        // It has said what it had to once the result is there.
        clearOnComplete: true,
        // A bar that outlived its command would keep the process alive.
        forceRedraw: true,
        stream: terminal(this.#io.stderr),
      });
      this.#bar.start(total, done, { label });
    }
    this.#bar.setTotal(total);
    this.#bar.update(done, { label });
  }

  /** A new label is said at once; the same one counts on every two seconds. */
  #line(line: string, label: string): void {
    const now = performance.now();
    const isNew = !this.#lastLine.startsWith(label);
    if (line === this.#lastLine || (!isNew && now - this.#lastLineAt < PROGRESS_LINE_MS)) return;
    this.endProgress();
    this.#lastLine = line;
    this.#lastLineAt = now;
    this.#io.stderr.write(`${line}\n`);
  }
}

/** The part of a Node stream that the bar uses. */
function terminal(sink: Sink): NodeJS.WritableStream {
  const stream = {
    isTTY: true,
    columns: sink.columns,
    write: (text: string) => {
      sink.write(text);
      return true;
    },
  };
  return stream as unknown as NodeJS.WritableStream;
}

/** Rows under a head, without lines between them. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const none = ["top", "top-mid", "top-left", "top-right", "bottom", "bottom-mid", "bottom-left"];
  const more = ["bottom-right", "left", "left-mid", "mid", "mid-mid", "right", "right-mid"];
  const chars = Object.fromEntries([...none, ...more].map((name) => [name, ""]));
  const made = new Table({
    head: [...head],
    chars: { ...chars, middle: "  " },
    // Without colours of its own, so that a pipe gets plain text.
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  made.push(...rows.map((row) => [...row]));
  return made.toString().split("\n").map((line) => line.trimEnd()).join("\n");
}

/** What went wrong and what to do next, in words on stderr. */
export function tellError({ message, hint }: AppError, io: Io): void {
  io.stderr.write(`${red("error:", io.stderr, io.env)} ${message}\n`);
  if (hint) io.stderr.write(`hint: ${hint}\n`);
}

/** Text from the top of the screen on; line by line, so that what stays does not flicker. */
function redrawn(text: string, isFirst: boolean): string {
  const lines = text.split("\n").map((line) => `${line}\x1b[K\n`).join("");
  return `${isFirst ? "\x1b[2J" : ""}\x1b[H${lines}\x1b[J`;
}

/** A terminal that understands more than text. */
function isSmart(sink: Sink, env: Io["env"]): boolean {
  return sink.isTerminal && env["TERM"] !== "dumb";
}

/** `text` in red where colours are wanted: on a terminal, and not against `NO_COLOR`. */
export function red(text: string, sink: Sink, env: Io["env"]): string {
  return isSmart(sink, env) && !env["NO_COLOR"] ? `\x1b[31m${text}\x1b[0m` : text;
}
