import cliProgress from "cli-progress";
import Table from "cli-table3";
import type { AppError } from "../core/errors.ts";
import type { Io, Sink } from "./io.ts";

/** Shortest time between two progress lines where there is no terminal. */
const PROGRESS_LINE_MS = 2_000;

/** How far something is; without `total` only its label is known. */
export interface Progress {
  readonly label: string;
  readonly done?: number | undefined;
  readonly total?: number | undefined;
}

/** What a command says: results on stdout, everything else on stderr. */
export class Output {
  readonly isJson: boolean;
  readonly #io: Io;
  #bar: cliProgress.SingleBar | undefined;
  #lastLine = "";
  #lastLineAt = -Infinity;

  constructor(io: Io, { isJson }: { isJson: boolean }) {
    this.#io = io;
    this.isJson = isJson;
  }

  /** The result: one JSON object on a line with `--json`, else words for people. */
  result(json: unknown, words: string): void {
    this.endProgress();
    const text = this.isJson ? JSON.stringify(json) : words;
    if (text !== "") this.#io.stdout.write(`${text}\n`);
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
    if (this.#io.stderr.isTerminal && isCounted) return this.#draw(label, done, total);
    this.#line(isCounted ? `${label} ${done}/${total}` : label, label);
  }

  /** Leaves the bar as it stands; what follows starts on a line of its own. */
  endProgress(): void {
    this.#bar?.stop();
    this.#bar = undefined;
  }

  #draw(label: string, done: number, total: number): void {
    if (!this.#bar) {
      this.#bar = new cliProgress.SingleBar({
        format: "{label} {bar} {value}/{total}",
        barCompleteChar: "█",
        barIncompleteChar: "░",
        barsize: 30,
        hideCursor: true,
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

/** What went wrong, in words on stderr; `help` is the hint of an error that has none. */
export function tellError({ message, hint }: AppError, io: Io, help?: string): void {
  io.stderr.write(`${red("error:", io.stderr, io.env)} ${message}\n`);
  const next = hint ?? help;
  if (next) io.stderr.write(`hint: ${next}\n`);
}

/** `text` in red where colours are wanted: on a terminal, and not against `NO_COLOR`. */
export function red(text: string, sink: Sink, env: Io["env"]): string {
  return sink.isTerminal && !env["NO_COLOR"] ? `\x1b[31m${text}\x1b[0m` : text;
}
