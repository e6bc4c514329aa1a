import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { NODE_V8_FLAGS } from "../../core/v8_flags.ts";
import { apart } from "./apart.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;

/** What a finished command left. */
export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `exo` from source to its end. */
export async function exo(...args: readonly string[]): Promise<Finished> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", MAIN, ...args],
    env: apart(),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** What runs `exo serve` unless a test has a program of its own that does. */
const SERVE_PROGRAM: readonly string[] = [
  "run",
  "-A",
  `--v8-flags=${NODE_V8_FLAGS.join(",")}`,
  MAIN,
];
/** What `exo serve --json` says once it is up. */
interface Served {
  readonly url: string;
  readonly nodeId: string;
  readonly libp2p: { readonly addresses: readonly string[] };
}

/** `exo serve` as a process of its own. */
export class ServeProcess implements AsyncDisposable {
  readonly url: string;
  readonly nodeId: string;
  /** Where other nodes reach it: multiaddrs. */
  readonly addresses: readonly string[];
  readonly #child: Deno.ChildProcess;

  private constructor(child: Deno.ChildProcess, { url, nodeId, libp2p }: Served) {
    this.#child = child;
    this.url = url;
    this.nodeId = nodeId;
    this.addresses = libp2p.addresses;
  }

  /**
   * Starts a node on free ports, behind the words of `wrap`; resolves when it serves. It is alone
   * unless `env` or `flags` name a namespace that another node has, too.
   * `deno` are the words that have Deno run a program which takes those of exo.
   */
  static async start(
    dataDir: string,
    env: Readonly<Record<string, string>> = {},
    flags: readonly string[] = ["-q"],
    wrap: readonly string[] = [],
    deno: readonly string[] = SERVE_PROGRAM,
  ): Promise<ServeProcess> {
    const serve = ["serve", "--port", "0", "--data-dir", dataDir, "--json", ...flags];
    const [program = "", ...args] = [...wrap, Deno.execPath(), ...deno, ...serve];
    const child = new Deno.Command(program, {
      args,
      env: { ...Deno.env.toObject(), ...apart(), ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const lines = createInterface({ input: Readable.fromWeb(child.stdout) });
    for await (const line of lines) return new ServeProcess(child, JSON.parse(line));
    throw new Error("exo serve ended without saying where it serves");
  }

  get pid(): number {
    return this.#child.pid;
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** The exit code, once the process has ended. */
  async ended(): Promise<number> {
    return (await this.#child.status).code;
  }

  /** Process ids of this node's runners. */
  async runnerPids(): Promise<number[]> {
    const path = `/proc/${this.pid}/task/${this.pid}/children`;
    const found: number[] = [];
    for await (const { name } of Deno.readDir(`/proc/${this.pid}/task`)) {
      const children = await readOr(path.replace(/task\/\d+/, `task/${name}`));
      found.push(...children.split(" ").filter((pid) => pid !== "").map(Number));
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It has ended already.
    }
    await this.#child.status;
  }
}

async function readOr(path: string): Promise<string> {
  try {
    return (await Deno.readTextFile(path)).trim();
  } catch {
    return "";
  }
}
