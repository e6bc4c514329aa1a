/**
 * Ranks of a group as processes of their own: what a test tells them comes down their stdin, line by
 * line, and what came of it goes up their stdout. A test that ends takes them along.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { GroupSpec } from "../../core/group.ts";
import type { Group } from "../../engines/group.ts";
import { type Dtype, fromArray, Scope } from "../../ffi/mod.ts";
import { within } from "./eventually.ts";

/** What a test may tell a rank to do. */
export type PeerCommand =
  | { readonly type: "bind" }
  | { readonly type: "join"; readonly spec: GroupSpec }
  | { readonly type: "send"; readonly header: string; readonly bodyBytes?: number }
  | { readonly type: "receive"; readonly ms: number }
  | { readonly type: "arrival" }
  | { readonly type: "dispose" }
  /** Whatever else the ranks of this kind can do. */
  | { readonly type: "extra"; readonly name: string; readonly options: unknown };

/** A frame as a test sees it. */
export interface SeenFrame {
  readonly byteCount: number;
  readonly digest: string;
  /** In base64, where it is short. */
  readonly bytes: string;
}

/** What a test has ranks sum. */
export interface SumOptions {
  readonly count: number;
  readonly dtype: Dtype;
}

/** The sum over all ranks of as many numbers, which differ from rank to rank, and what comes of it. */
export function sumOf(group: Group, options: unknown): number[] {
  const { count, dtype } = options as SumOptions;
  using _scope = new Scope();
  const own = Float32Array.from({ length: count }, (_, at) => at * (1 + group.rank));
  // Of something that MLX has yet to compute, and on to something that it computes then.
  const sum = group.sum(fromArray(own, [1, count]).astype(dtype).add(1));
  if (sum.dtype !== dtype) throw new Error(`a sum of ${dtype} is of ${sum.dtype}`);
  return [...sum.multiply(0.5).astype("float32").toFloat32Array()];
}

/** What a kind of group must offer to be run by peers. */
export interface PeerKind {
  /** The port at which this rank will listen on the loopback. */
  bind(): number;
  join(spec: GroupSpec): Promise<Group>;
  extra?(group: Group, name: string, options: unknown): unknown;
}

/** Frames up to so many bytes are reported in full. */
const SHOWN_BYTES_MAX = 4_096;

/** What a frame looks like. */
export function seen(frame: Uint8Array): SeenFrame {
  const digest = createHash("sha256").update(frame).digest("hex");
  const bytes = frame.length <= SHOWN_BYTES_MAX ? Buffer.from(frame).toString("base64") : "";
  return { byteCount: frame.length, digest, bytes };
}

/** The body of a frame, by its length: all byte values, and none of them at a fixed place. */
export function bodyOf(byteCount: number): Uint8Array<ArrayBuffer> {
  const body = new Uint8Array(byteCount);
  for (let i = 0; i < byteCount; i++) body[i] = i * 31 + (i >> 8) + byteCount;
  return body;
}

async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

/** Writes a line, all of it, before anything else happens. */
function say(answer: unknown): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(answer)}\n`);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/** The life of a rank: does what its stdin says until that ends. */
export async function runPeer(kind: PeerKind): Promise<void> {
  let group: Group | undefined;
  const obey = async (command: PeerCommand): Promise<unknown> => {
    if (command.type === "bind") return kind.bind();
    if (command.type === "join") {
      group = await kind.join(command.spec);
      return null;
    }
    if (!group) throw new Error("join first");
    switch (command.type) {
      case "send": {
        const header = new Uint8Array(Buffer.from(command.header, "base64"));
        const { bodyBytes } = command;
        return group.send(header, bodyBytes === undefined ? undefined : bodyOf(bodyBytes)) ?? null;
      }
      case "receive": {
        const frame = group.receive(command.ms);
        return frame ? seen(frame) : null;
      }
      case "arrival":
        return await group.arrival() ?? null;
      case "dispose":
        return group[Symbol.dispose]() ?? null;
      case "extra":
        return await kind.extra?.(group, command.name, command.options);
    }
  };
  for await (const line of linesOf(Deno.stdin.readable)) {
    const { id, command } = JSON.parse(line) as { id: number; command: PeerCommand };
    // Not awaited: the next command may end what this one waits for.
    obey(command).then(
      (value) => say({ id, value }),
      (error: Error) => say({ id, error: error.message }),
    );
  }
  Deno.exit(0);
}

/** How long a rank may take for what should take none. */
const ANSWER_MS = 60_000;

/** A rank, from the test's side. */
export class Peer implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #lastId = 0;

  /** Starts the program at a path: one that calls {@linkcode runPeer}. */
  constructor(main: string) {
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", main],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#input = this.#process.stdin.getWriter();
    this.#read().catch(() => {});
  }

  async #read(): Promise<void> {
    for await (const line of linesOf(this.#process.stdout)) {
      const { id, value, error } = JSON.parse(line);
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(new Error(error));
    }
    for (const waiting of this.#waiting.values()) waiting.reject(new Error("the rank has ended"));
  }

  /** What came of a command. @throws {Error} with the message of the one that it threw. */
  ask<T = unknown>(command: PeerCommand): Promise<T> {
    const id = ++this.#lastId;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    const line = `${JSON.stringify({ id, command })}\n`;
    this.#input.write(new TextEncoder().encode(line)).catch(() => {});
    return within(`a rank to answer "${command.type}"`, waiting.promise as Promise<T>, ANSWER_MS);
  }

  /** The message of the error that comes of a command; it must come within `limitMs`. */
  async refusal(command: PeerCommand, limitMs = ANSWER_MS): Promise<string> {
    const answer = this.ask(command).then((value) => `no error: ${JSON.stringify(value)}`);
    return await within("an error", answer.catch((error: Error) => error.message), limitMs);
  }

  /** What the system knows it by. */
  get pid(): number {
    return this.#process.pid;
  }

  /** Sends it a signal. */
  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  /** Ends it, even if it was stopped. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#process.status;
    await this.#input.abort().catch(() => {});
  }
}

/** Ranks of one group that have met; disposing ends them all. */
export class PeerRing implements AsyncDisposable {
  readonly peers: readonly Peer[];

  private constructor(peers: readonly Peer[]) {
    this.peers = peers;
  }

  /** Starts a rank of a program for each name, and lets them meet on the loopback. */
  static async start(main: string, names: readonly string[]): Promise<PeerRing> {
    const ring = new PeerRing(names.map(() => new Peer(main)));
    try {
      const bound = ring.peers.map((peer) => peer.ask<number>({ type: "bind" }));
      const hosts = (await Promise.all(bound)).map((port) => ({ ip: "127.0.0.1", port }));
      await Promise.all(ring.peers.map((peer, rank) => {
        const link = { type: "ring", hosts } as const;
        const spec = { groupId: "instance/1.1", rank, size: names.length, names, link };
        return peer.ask({ type: "join", spec: { ...spec, names: [...names] } });
      }));
      return ring;
    } catch (cause) {
      await ring[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /** The rank of this number. */
  at(rank: number): Peer {
    const peer = this.peers[rank];
    if (!peer) throw new RangeError(`no rank ${rank}`);
    return peer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.peers.map((peer) => peer[Symbol.asyncDispose]()));
  }
}
