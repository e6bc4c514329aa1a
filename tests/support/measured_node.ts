import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import type { MemoryCounters } from "../../ffi/mod.ts";
import { eventually } from "./eventually.ts";

const MAIN = new URL("./measured_node_main.ts", import.meta.url).pathname;

/** What the process of a node holds. */
export interface NodeSample {
  /** Alive after a full garbage collection. */
  readonly liveBytes: number;
  readonly residentBytes: number;
}

/** A node in a process of its own, of which tests can ask what it and its runners hold. */
export class MeasuredNode implements AsyncDisposable {
  readonly url: string;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncIterator<string>;
  readonly #countersFile: string;

  private constructor(
    child: Deno.ChildProcess,
    lines: AsyncIterator<string>,
    options: { readonly url: string; readonly countersFile: string },
  ) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#lines = lines;
    this.url = options.url;
    this.#countersFile = options.countersFile;
  }

  /** Starts a node on a free port. */
  static async start(
    dataDir: string,
    env: Readonly<Record<string, string>> = {},
  ): Promise<MeasuredNode> {
    const countersFile = `${dataDir}/counters.json`;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--v8-flags=--expose-gc", MAIN, dataDir],
      env: { ...Deno.env.toObject(), EXO_COUNTERS_FILE: countersFile, ...env },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const input = Readable.fromWeb(child.stdout);
    const lines = createInterface({ input })[Symbol.asyncIterator]();
    const { url } = JSON.parse(await next(lines));
    return new MeasuredNode(child, lines, { url, countersFile });
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** What the node holds now, after a garbage collection. */
  async sample(): Promise<NodeSample> {
    await this.#input.write(new TextEncoder().encode("\n"));
    return JSON.parse(await next(this.#lines));
  }

  /** MLX's counters in the node's only runner. */
  async counters(): Promise<MemoryCounters> {
    const [pid] = await this.runnerPids();
    if (pid === undefined) throw new Error("The node has no runner");
    Deno.kill(pid, "SIGUSR2");
    let text = "";
    await eventually("the runner tells its counters", async () => {
      text = await Deno.readTextFile(this.#countersFile).catch(() => "");
      return text !== "";
    });
    await Deno.remove(this.#countersFile);
    return JSON.parse(text);
  }

  /** Process ids of the node's runners. Source: Linux, proc(5). */
  async runnerPids(): Promise<number[]> {
    const pids: number[] = [];
    for await (const { name } of Deno.readDir(`/proc/${this.pid}/task`)) {
      const path = `/proc/${this.pid}/task/${name}/children`;
      const children = await Deno.readTextFile(path).catch(() => "");
      pids.push(...children.split(" ").filter((pid) => pid.trim() !== "").map(Number));
    }
    return pids;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close();
    await this.#child.stdout.cancel().catch(() => {});
    await this.#child.status;
  }
}

async function next(lines: AsyncIterator<string>): Promise<string> {
  const { done, value } = await lines.next();
  if (done) throw new Error("The node ended");
  return value;
}
