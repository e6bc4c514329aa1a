/**
 * A network that is only there for a test or a benchmark: machines that are network namespaces, and
 * links between them that are shaped and cut. Linux alone, as root, with g++ for `relay.cpp`. No
 * interface of the machine that it runs on is touched but for the ports of its loopback that are
 * doors.
 */
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { directories } from "../core/directories.ts";

const SOURCE = new URL("./relay.cpp", import.meta.url);

/** Machines of one network: the last byte of their addresses tells them apart. */
export const MACHINES_MAX = 250;

/** How one direction between two machines is. */
export interface LinkShape {
  readonly delayMs?: number;
  /** A frame is late by up to this much more; none overtakes another. */
  readonly jitterMs?: number;
  /** Share of frames that are lost. */
  readonly loss?: number;
}

/** Frames from one machine to another so far. */
export interface LinkCounts {
  readonly carried: number;
  readonly lost: number;
  /** For a cut, a cable that was out, or a full queue. */
  readonly dropped: number;
  readonly carriedBytes: number;
}

/** What a network is started with. */
export interface NetworkOptions {
  readonly machines: number;
  /** Of the loss and jitter of each link; which frame comes when is up to the machines. */
  readonly seed?: number;
}

/** Why there can be no network of namespaces here; undefined where there can. */
export async function whyNoNetwork(): Promise<string | undefined> {
  if (Deno.build.os !== "linux") return "network namespaces need Linux";
  if (Deno.uid() !== 0) return "network namespaces need root";
  for (const [program, purpose] of Object.entries(PROGRAMS)) {
    const found = await output(["sh", "-c", `command -v ${program}`]).catch(() => "");
    if (found === "") return `${program} is not installed, which ${purpose}`;
  }
  const tried = await output(["unshare", "--net", "test", "-c", "/dev/net/tun"])
    .then(() => undefined, String);
  return tried && `no namespace with a TUN device can be made here: ${tried}`;
}

const PROGRAMS = {
  "g++": "builds bench/relay.cpp",
  nsenter: "starts programs in a namespace",
  unshare: "gives them their own /sys",
  tc: "limits bandwidth",
};

/** Machines and the links between them, numbered from 0. */
export class VirtualNetwork implements AsyncDisposable {
  readonly machines: readonly number[];
  readonly #relay: Deno.ChildProcess;
  readonly #commands: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncIterator<string>;
  readonly #namespaces: readonly string[];
  readonly #links = new Map<string, LinkShape & { readonly isCut: boolean }>();
  #asking: Promise<unknown> = Promise.resolve();

  private constructor(
    relay: Deno.ChildProcess,
    answers: AsyncIterator<string>,
    namespaces: readonly string[],
  ) {
    this.#relay = relay;
    this.#answers = answers;
    this.#commands = relay.stdin.getWriter();
    this.#namespaces = namespaces;
    this.machines = namespaces.map((_, machine) => machine);
  }

  /** Machines that reach each other at once and lose nothing, until they are told otherwise. */
  static async start({ machines, seed = 1 }: NetworkOptions): Promise<VirtualNetwork> {
    if (machines > MACHINES_MAX) {
      throw new RangeError(`Cannot make ${machines} machines, ${MACHINES_MAX} at most`);
    }
    const relay = new Deno.Command(await relayProgram(), {
      args: [`${machines}`, `${seed}`],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const lines = createInterface({ input: Readable.fromWeb(relay.stdout) });
    const answers = lines[Symbol.asyncIterator]();
    const descriptors: number[] = JSON.parse(await next(answers));
    const namespaces = descriptors.map((fd) => `/proc/${relay.pid}/fd/${fd}`);
    return new VirtualNetwork(relay, answers, namespaces);
  }

  /** The address of a machine's network card. */
  address(machine: number): string {
    return `10.99.0.${machine + 1}`;
  }

  /** Words before a command that has it run on a machine, as the same process. */
  wrap(machine: number): string[] {
    // What /sys shows of networks is that of whoever mounted it.
    const enter = 'mount -t sysfs sysfs /sys && exec "$@"';
    const namespace = this.#namespaces[machine];
    if (namespace === undefined) throw new RangeError(`There is no machine ${machine}`);
    return ["nsenter", `--net=${namespace}`, "unshare", "--mount", "sh", "-c", enter, "sh"];
  }

  /** What a command on a machine prints. @throws when it fails. */
  run(machine: number, ...command: readonly string[]): Promise<string> {
    return output([...this.wrap(machine), ...command]);
  }

  /** A port of this process's loopback that leads to one of a machine's, whatever is cut. */
  async door(machine: number, port: number): Promise<number> {
    return Number(await this.#ask(`door ${machine} ${port}`));
  }

  /** Shapes one direction. */
  async shape(from: number, to: number, shape: LinkShape): Promise<void> {
    await this.#set(from, to, { ...this.#linkOf(from, to), ...shape });
  }

  /** Shapes all links, both ways. */
  async shapeAll(shape: LinkShape): Promise<void> {
    for (const from of this.machines) {
      for (const to of this.machines) if (from !== to) await this.shape(from, to, shape);
    }
  }

  /** Lets a machine send no more than this, by the kernel's own token bucket. */
  async limit(machine: number, bitsPerSecond: number): Promise<void> {
    const bucket = ["rate", `${bitsPerSecond}bit`, "burst", "32kb", "latency", "50ms"];
    await this.run(machine, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", ...bucket);
  }

  /** Nothing comes from any of the first to any of the second. */
  async cutOneWay(from: readonly number[], to: readonly number[]): Promise<void> {
    for (const a of from) {
      for (const b of to) await this.#set(a, b, { ...this.#linkOf(a, b), isCut: true });
    }
  }

  /** Nothing comes from any of the first to any of the second, nor back. */
  async cut(some: readonly number[], others: readonly number[]): Promise<void> {
    await this.cutOneWay(some, others);
    await this.cutOneWay(others, some);
  }

  /** Mends every cut. */
  async heal(): Promise<void> {
    for (const [key, shape] of this.#links) {
      const [from = 0, to = 0] = key.split(" ").map(Number);
      if (shape.isCut) await this.#set(from, to, { ...shape, isCut: false });
    }
  }

  /** Pulls a machine's cable: its card has no carrier, and nothing comes or goes. */
  async unplug(machine: number): Promise<void> {
    await this.#obeyed(`cable ${machine} 0`);
  }

  /** Puts a machine's cable in again. */
  async plug(machine: number): Promise<void> {
    await this.#obeyed(`cable ${machine} 1`);
  }

  /** What has come from one machine to another. */
  async counts(from: number, to: number): Promise<LinkCounts> {
    const numbers = (await this.#ask(`count ${from} ${to}`)).split(" ").map(Number);
    const [carried = 0, lost = 0, dropped = 0, carriedBytes = 0] = numbers;
    return { carried, lost, dropped, carriedBytes };
  }

  #linkOf(from: number, to: number): LinkShape & { readonly isCut: boolean } {
    return this.#links.get(`${from} ${to}`) ?? { isCut: false };
  }

  async #set(from: number, to: number, link: LinkShape & { isCut: boolean }): Promise<void> {
    const { delayMs = 0, jitterMs = 0, loss = 0, isCut } = link;
    const [delayUs, jitterUs] = [delayMs, jitterMs].map((ms) => Math.round(ms * 1_000));
    const lossPpm = Math.round(loss * 1_000_000);
    await this.#obeyed(`link ${from} ${to} ${delayUs} ${jitterUs} ${lossPpm} ${isCut ? 1 : 0}`);
    this.#links.set(`${from} ${to}`, link);
  }

  async #obeyed(command: string): Promise<void> {
    const answer = await this.#ask(command);
    if (answer !== "ok") throw new Error(`The relay cannot "${command}": ${answer}`);
  }

  /** One command at a time, as the relay answers them. */
  #ask(command: string): Promise<string> {
    const answer = this.#asking.catch(() => {}).then(async () => {
      await this.#commands.write(new TextEncoder().encode(`${command}\n`));
      return await next(this.#answers);
    });
    this.#asking = answer;
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#commands.close().catch(() => {});
    await this.#relay.status;
    await this.#answers.return?.();
  }
}

async function next(lines: AsyncIterator<string>): Promise<string> {
  const { done, value } = await lines.next();
  if (done) throw new Error("The relay ended; what it last said is on stderr");
  return value;
}

let building: Promise<string> | undefined;

/** The path of the relay, built where this source was not yet. */
function relayProgram(): Promise<string> {
  return building ??= buildRelay();
}

async function buildRelay(): Promise<string> {
  const source = await Deno.readFile(SOURCE);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", source)).toHex();
  const env = Deno.env.toObject();
  const { cache } = directories({ env, os: Deno.build.os, home: env["HOME"] ?? "/" });
  const folder = `${cache}/tests`;
  const program = `${folder}/relay-${digest.slice(0, 16)}`;
  if (await Deno.stat(program).then(() => true, () => false)) return program;
  await Deno.mkdir(folder, { recursive: true });
  const made = await Deno.makeTempFile({ dir: folder, prefix: "relay-" });
  await output(["g++", "-O2", "-std=c++20", "-pthread", "-o", made, SOURCE.pathname]);
  await Deno.chmod(made, 0o755);
  // Renamed, so that two tests may build it at once.
  await Deno.rename(made, program);
  return program;
}

async function output([program = "", ...args]: readonly string[]): Promise<string> {
  const command = new Deno.Command(program, { args, stdin: "null" });
  const { success, stdout, stderr } = await command.output();
  const [printed, complaint] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (!success) throw new Error(`${program} ${args.join(" ")}: ${complaint}`);
  return printed ?? "";
}
