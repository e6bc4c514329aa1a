import { type ApiServer, serveApi } from "../../api/server.ts";
import type { Command } from "../../cli/command.ts";
import type { Sink } from "../../cli/io.ts";
import type { Entry, Keyboard, KeyboardIo } from "../../cli/keyboard.ts";
import { COMMANDS, runCli } from "../../cli/mod.ts";
import { FakeGateway } from "../support/fake_gateway.ts";

/** What a command did. */
export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The world of one command. */
export interface World {
  readonly env?: Readonly<Record<string, string>>;
  /** What is piped in; absent means a terminal. */
  readonly stdin?: string;
  readonly isTerminal?: boolean;
  readonly signal?: AbortSignal;
  readonly files?: Readonly<Record<string, string>>;
  /** Who sits at the terminal; nobody, unless said. */
  readonly keyboard?: FakeKeyboard;
  readonly cwd?: string;
  /** Called with each piece that is written to stdout. */
  readonly onStdout?: (text: string) => void;
}

/** Runs a command line in process, in a world of its own. */
export async function runIn(world: World, argv: readonly string[]): Promise<Ran> {
  const { io, stdout, stderr } = ioOf(world);
  const code = await runCli(argv, io);
  return { code, stdout: stdout(), stderr: stderr() };
}

/** The command that a command line names. */
export async function commandOf([name, ...words]: readonly string[]): Promise<Command> {
  const row = COMMANDS.find((row) => row.name === name);
  let entry = await row?.load();
  for (const word of words) {
    if (entry?.kind !== "group") break;
    entry = entry.commands.find((one) => one.name === word);
  }
  if (entry?.kind !== "command") throw new Error(`no command ${name} ${words.join(" ")}`);
  return entry;
}

/** A world, with what has been written to it so far. */
export function ioOf(world: World): { io: KeyboardIo; stdout: () => string; stderr: () => string } {
  const isTerminal = world.isTerminal ?? false;
  const stdout = recorder(isTerminal, world.onStdout);
  const stderr = recorder(isTerminal);
  const io: KeyboardIo = {
    env: world.env ?? {},
    stdout: stdout.sink,
    stderr: stderr.sink,
    stdin: {
      isTerminal: world.stdin === undefined,
      readText: () => Promise.resolve(world.stdin ?? ""),
    },
    signal: world.signal ?? new AbortController().signal,
    cwd: world.cwd ?? "/work/here",
    home: "/home/someone",
    os: "linux",
    readFile: (path) => world.files?.[path],
    openKeyboard: () => world.keyboard ?? new FakeKeyboard(),
  };
  return { io, stdout: stdout.text, stderr: stderr.text };
}

function recorder(isTerminal: boolean, listener: (text: string) => void = () => {}) {
  let text = "";
  const sink: Sink = {
    isTerminal,
    columns: 100,
    write: (piece) => {
      text += piece;
      listener(piece);
    },
  };
  return { sink, text: () => text };
}

/** A person who types what was agreed, then presses Ctrl-D. */
export class FakeKeyboard implements Keyboard {
  /** Ctrl-C while an answer is made. */
  pressCtrlC: () => void = () => {};
  isClosed = false;
  readonly #entries: (string | Entry)[];

  constructor(...entries: (string | Entry)[]) {
    this.#entries = entries;
  }

  ask(): Promise<Entry> {
    const entry = this.#entries.shift() ?? { type: "end" };
    return Promise.resolve(typeof entry === "string" ? { type: "line", text: entry } : entry);
  }

  onInterrupt(stop: () => void): Disposable {
    this.pressCtrlC = stop;
    return { [Symbol.dispose]: () => this.pressCtrlC = () => {} };
  }

  [Symbol.dispose](): void {
    this.isClosed = true;
  }
}

/** A fake node behind a real server, until the returned value is disposed. */
export class FakeNode implements AsyncDisposable {
  readonly gateway: FakeGateway;
  readonly url: string;
  readonly #stop: AbortController;
  readonly #finished: Promise<void>;

  private constructor(gateway: FakeGateway, stop: AbortController, server: ApiServer) {
    this.gateway = gateway;
    this.url = server.url;
    this.#stop = stop;
    this.#finished = server.finished;
  }

  static async start(options: { apiKey?: string } = {}): Promise<FakeNode> {
    const [gateway, stop] = [new FakeGateway(), new AbortController()];
    const listen = { hostname: "127.0.0.1", port: 0, signal: stop.signal };
    return new FakeNode(gateway, stop, await serveApi(gateway, { ...listen, ...options }));
  }

  /** Runs a command line against this node. */
  run(argv: readonly string[], world: World = {}): Promise<Ran> {
    return runIn({ ...world, env: { EXO_URL: this.url, ...world.env } }, argv);
  }

  /** The same with `--json`; its one line on stdout comes back parsed, and fits its schema. */
  async json(argv: readonly string[], world: World = {}): Promise<unknown> {
    const { code, stdout, stderr } = await this.run([...argv, "--json"], world);
    if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
    const result = JSON.parse(stdout);
    (await commandOf(argv)).json.parse(result);
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#finished;
  }
}
