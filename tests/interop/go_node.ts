/** A node of go-libp2p as a process: `tests/interop/go/main.go` says what it does. */
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { directories } from "../../core/directories.ts";
import { within } from "../support/eventually.ts";

const SOURCES = new URL("./go/", import.meta.url);

/** How long it may take to fetch all modules. */
const FETCH_MS_MAX = 300_000;

/** How long a build may take whose modules are there. */
const BUILD_MS_MAX = 300_000;

/** How long the node may take to say something that it is asked for. */
const PATIENCE_MS = 15_000;

/** What the node says; see `main.go`. */
export type Said =
  | {
    readonly type: "Identified";
    readonly self: string;
    readonly peer: string;
    readonly agentVersion: string;
    readonly protocolVersion: string;
    readonly protocols: readonly string[];
  }
  | { readonly type: "Joined" | "Left"; readonly peer: string }
  | { readonly type: "Heard"; readonly from: string; readonly text: string };

/** The program, or why there is none. */
export type Built = { readonly path: string } | { readonly missing: string };

/**
 * Builds the program once for these sources and this compiler; it is kept in the cache folder. It is
 * missing where there is no compiler for it, or no registry gives its modules, or it takes too long.
 * @throws when the program does not compile: that is a fault of ours.
 */
export async function buildGoNode(): Promise<Built> {
  const version = await run("go", ["version"], 10_000);
  if (!version.ok) return { missing: "needs Go 1.26 or newer on PATH: https://go.dev/dl" };
  const hash = createHash("sha256").update(version.said);
  for (const name of ["main.go", "go.mod", "go.sum"]) {
    hash.update(await Deno.readFile(new URL(name, SOURCES)));
  }
  const env = Deno.env.toObject();
  const { cache } = directories({ env, os: Deno.build.os, home: env["HOME"] ?? "/" });
  const path = `${cache}/interop/go-${hash.digest("hex").slice(0, 16)}`;
  if (await exists(path)) return { path };
  // Whatever is wrong before there are modules to build with is wrong elsewhere, or too old.
  const fetched = await run("go", ["mod", "download"], FETCH_MS_MAX);
  if (!fetched.ok) return { missing: `needs Go 1.26 or newer and its modules: ${fetched.why}` };
  const built = `${path}.${Deno.pid}`;
  const { ok, isLate, said, why } = await run("go", ["build", "-o", built, "."], BUILD_MS_MAX);
  if (isLate) return { missing: `needs more time to build: ${why}` };
  if (!ok) throw new Error(`Cannot build ${SOURCES.pathname}: ${said.trim()}`);
  await Deno.rename(built, path);
  return { path };
}

/** How a program went; `why` is the last thing it said, or that it took too long. */
interface Ran {
  readonly ok: boolean;
  readonly isLate: boolean;
  readonly said: string;
  readonly why: string;
}

async function run(program: string, args: string[], ms: number): Promise<Ran> {
  const signal = AbortSignal.timeout(ms);
  try {
    const { success, stdout, stderr } = await new Deno.Command(program, {
      args,
      cwd: SOURCES,
      // An older compiler would fetch a newer one, which nobody has asked for.
      env: { GOTOOLCHAIN: "local" },
      signal,
    }).output();
    const said = new TextDecoder().decode(success ? stdout : stderr);
    // Killed for its time, it has said nothing of that.
    const isLate = !success && signal.aborted;
    const last = said.trim().split("\n").at(-1) ?? "";
    return { ok: success, isLate, said, why: isLate ? `not done after ${ms} ms` : last };
  } catch (cause) {
    return { ok: false, isLate: false, said: String(cause), why: String(cause) };
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}

/** Where the node dials, and as what. */
export interface GoNodeOptions {
  readonly address: string;
  readonly topic: string;
  /** Key of the private network, in hex. */
  readonly secret?: string | undefined;
}

/** The process while it runs. */
export class GoNode implements AsyncDisposable {
  /** All that it has said so far. */
  readonly said: Said[] = [];
  /** Why it has ended, if it was not asked to. */
  readonly complaints: Promise<string>;
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #listeners = new Set<() => void>();
  readonly #read: Promise<void>;
  #ended = false;

  constructor(path: string, { address, topic, secret }: GoNodeOptions) {
    const args = ["-address", address, "-topic", topic];
    this.#child = new Deno.Command(path, {
      args: secret === undefined ? args : [...args, "-secret", secret],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.complaints = new Response(this.#child.stderr).text();
    this.#stdin = this.#child.stdin.getWriter();
    this.#read = this.#listen();
  }

  /** Publishes a line of text. */
  async publish(text: string): Promise<void> {
    await this.#stdin.write(new TextEncoder().encode(`${text}\n`));
  }

  /** Waits until it has said something of this kind; undefined when it ended before. */
  async hears<T extends Said>(what: string, is: (said: Said) => said is T): Promise<T | undefined> {
    const found = new Promise<T | undefined>((resolve) => {
      const look = () => {
        const one = this.said.find(is);
        if (one || this.#ended) resolve(one);
      };
      this.#listeners.add(look);
      look();
    });
    return await within(what, found, PATIENCE_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close().catch(() => {});
    const killed = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE_MS);
    await this.#child.status;
    clearTimeout(killed);
    await this.#read;
  }

  async #listen(): Promise<void> {
    for await (const line of createInterface({ input: Readable.fromWeb(this.#child.stdout) })) {
      this.said.push(JSON.parse(line));
      for (const look of [...this.#listeners]) look();
    }
    this.#ended = true;
    for (const look of [...this.#listeners]) look();
  }
}
