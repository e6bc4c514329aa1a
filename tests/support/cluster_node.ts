import assert from "node:assert/strict";
import { ApiClient } from "../../api/client.ts";
import type { StateView } from "../../api/client_state.ts";
import { NODE_V8_FLAGS } from "../../core/v8_flags.ts";
import { eventually } from "./eventually.ts";
import { ServeProcess } from "./exo_process.ts";
import { Orders } from "./orders.ts";
import { processesWith } from "./process_state.ts";
import type { VirtualNetwork } from "../../bench/netns.ts";

const MEASURED_MAIN = new URL("./measured_serve_main.ts", import.meta.url).pathname;
const ORDERED_MAIN = new URL("./ordered_serve_main.ts", import.meta.url).pathname;

/** Ports of nodes that have a machine of their own; they may be fixed. */
const API_PORT = 52_415;

/** Names the node's own folder to all of its processes. */
const FOLDER_VARIABLE = "EXO_TEST_FOLDER";

/** Clock ticks of a second in /proc. Source: Linux, proc(5); sysconf(_SC_CLK_TCK). */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4_096;

/** How one node of a cluster is started. */
export interface NodeSpec {
  readonly index: number;
  /** Holds its data, its log, and what it says on stderr. */
  readonly folder: string;
  readonly network: VirtualNetwork | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly flags: readonly string[];
  /** Whether it can tell what is alive in it. */
  readonly isMeasured: boolean;
  /** Whether its runners obey a test's orders; it is measured, then. */
  readonly isOrdered: boolean;
}

/** One `exo serve` of a cluster, which can end and start again. */
export class ClusterNode {
  readonly index: number;
  readonly dataDir: string;
  /** What its runners are told by the test, if they obey. */
  readonly orders: Orders;
  readonly #spec: NodeSpec;
  readonly #stderrFile: string;
  readonly #liveFile: string;
  #process: ServeProcess | undefined;
  #client: ApiClient | undefined;
  #door: number | undefined;

  constructor(spec: NodeSpec) {
    this.#spec = spec;
    this.index = spec.index;
    this.dataDir = `${spec.folder}/data`;
    this.orders = new Orders(spec.folder);
    this.#stderrFile = `${spec.folder}/stderr`;
    this.#liveFile = `${spec.folder}/live`;
  }

  /** Starts it; resolves when it serves. */
  async start(): Promise<void> {
    assert.equal(this.#process, undefined, `node ${this.index} runs already`);
    const { network, index, flags, folder } = this.#spec;
    const listens = network ? ["--port", `${API_PORT}`] : [];
    const serve = await ServeProcess.start(
      this.dataDir,
      { ...this.#spec.env, EXO_LIVE_BYTES_FILE: this.#liveFile, [FOLDER_VARIABLE]: folder },
      ["-q", "--name", `node-${index}`, ...listens, ...flags],
      this.#wrap(),
      this.#program(),
    ).catch(async (cause) => {
      throw new Error(`Node ${index} did not start: ${await this.stderr()}`, { cause });
    });
    this.#process = serve;
    this.#client = new ApiClient({ url: await this.#urlOf(serve), apiKey: undefined });
  }

  #program(): string[] | undefined {
    const { isMeasured, isOrdered } = this.#spec;
    const main = isOrdered ? ORDERED_MAIN : isMeasured ? MEASURED_MAIN : undefined;
    const flags = ["--expose-gc", ...NODE_V8_FLAGS].join(",");
    return main === undefined ? undefined : ["run", "-A", `--v8-flags=${flags}`, main];
  }

  /** On its machine, and with what it says on stderr kept; all as one process. */
  #wrap(): string[] {
    const { network, index } = this.#spec;
    const machine = network?.wrap(index) ?? [];
    return [...machine, "sh", "-c", 'exec "$@" 2>>"$0"', this.#stderrFile];
  }

  async #urlOf({ url }: ServeProcess): Promise<string> {
    const { network, index } = this.#spec;
    if (!network) return url;
    this.#door ??= await network.door(index, API_PORT);
    return `http://127.0.0.1:${this.#door}`;
  }

  get isRunning(): boolean {
    return this.#process !== undefined;
  }

  get process(): ServeProcess {
    assert.ok(this.#process, `node ${this.index} runs`);
    return this.#process;
  }

  get client(): ApiClient {
    assert.ok(this.#client, `node ${this.index} has run`);
    return this.#client;
  }

  get nodeId(): string {
    return this.process.nodeId;
  }

  state(): Promise<StateView> {
    return this.client.state();
  }

  /** Ends it by a signal; resolves with its exit code. */
  async end(signal: Deno.Signal): Promise<number> {
    const serve = this.process;
    this.#process = undefined;
    serve.kill(signal);
    return await serve.ended();
  }

  /** Takes all it had from a node that has ended, its identity too. */
  async wipe(): Promise<void> {
    assert.ok(!this.isRunning, `node ${this.index} has ended`);
    await Deno.remove(this.dataDir, { recursive: true });
  }

  /** The last of what it said on stderr. */
  async stderr(): Promise<string> {
    return (await this.log()).slice(-2_000);
  }

  /** All that it has said on stderr. */
  async log(): Promise<string> {
    return await Deno.readTextFile(this.#stderrFile).catch(() => "");
  }

  /** Itself, while it runs, and all that it ever started, orphans too, as far as they live. */
  async processes(): Promise<number[]> {
    return await processesWith(`${FOLDER_VARIABLE}=${this.#spec.folder}`);
  }

  /** What is alive in it after a garbage collection. */
  async liveBytes(): Promise<number> {
    assert.ok(this.#program(), "the cluster is measured");
    await Deno.remove(this.#liveFile).catch(() => {});
    this.process.kill("SIGUSR2");
    let text = "";
    await eventually(`node ${this.index} tells what is alive`, async () => {
      text = await Deno.readTextFile(this.#liveFile).catch(() => "");
      return text !== "";
    });
    return Number(text);
  }

  async residentBytes(): Promise<number> {
    const [, pages = ""] = (await this.#proc("statm")).split(" ");
    return Number(pages) * PAGE_BYTES;
  }

  /** Time of the CPU that the node itself has taken so far, without its runners. */
  async cpuMs(): Promise<number> {
    // The name in parentheses may hold anything; what follows starts with the third field.
    const fields = (await this.#proc("stat")).replace(/^.*\) /, "").split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    return ticks * 1_000 / TICKS_PER_SECOND;
  }

  #proc(file: string): Promise<string> {
    return Deno.readTextFile(`/proc/${this.process.pid}/${file}`);
  }
}
