import type { CommandFailure, CommandResult, CommandWords } from "../../node/info/command.ts";
import type { CoreTimes } from "../../node/info/cpu_usage.ts";
import type { InfoSources } from "../../node/info/sources.ts";

interface Waiter {
  readonly at: number;
  readonly wake: () => void;
}

interface Follower {
  readonly onLine: (line: string) => void;
  readonly end: (failure: CommandFailure) => void;
}

const MISSING: CommandFailure = { ok: false, isMissing: true, reason: "no such program" };

/** The text of a file of `tests/golden/node_info/`. */
export function golden(name: string): Promise<string> {
  return Deno.readTextFile(new URL(`../golden/node_info/${name}`, import.meta.url));
}

/** Lets all that does not wait for time go as far as it can. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
}

/** A machine made up by a test, with a time of its own. */
export class FakeMachine implements InfoSources {
  os = "linux";
  arch = "x86_64";
  host = "box";
  variables: Record<string, string> = {};
  readonly files = new Map<string, string>();
  readonly links = new Map<string, string>();
  /** What commands say, by their words; one that is not here is no program of this machine. */
  readonly commands = new Map<string, string | CommandResult>();
  /** Each command that was run, in order. */
  readonly ran: string[] = [];
  addresses: { name: string; address: string }[] = [];
  cores: CoreTimes[] = [];
  diskTotal = 100;
  /** Absent: the disk does not answer. */
  diskFree: number | undefined = 50;
  now = 0;
  readonly followers = new Map<string, Follower>();
  readonly #waiters = new Set<Waiter>();

  env(name: string): string | undefined {
    return this.variables[name];
  }

  hostname(): string {
    return this.host;
  }

  osRelease(): string {
    return "6.1.0";
  }

  readText(path: string): Promise<string | undefined> {
    return Promise.resolve(this.files.get(path));
  }

  list(folder: string): Promise<readonly string[]> {
    const inside = [...this.files.keys(), ...this.links.keys()]
      .filter((path) => path.startsWith(`${folder}/`))
      .map((path) => path.slice(folder.length + 1).split("/")[0] as string);
    return Promise.resolve([...new Set(inside)].sort());
  }

  linkTarget(path: string): Promise<string | undefined> {
    return Promise.resolve(this.links.get(path));
  }

  run(words: CommandWords): Promise<CommandResult> {
    const line = words.join(" ");
    this.ran.push(line);
    const said = this.commands.get(line) ?? MISSING;
    return Promise.resolve(typeof said === "string" ? { ok: true, text: said } : said);
  }

  follow(
    words: CommandWords,
    { signal, onLine }: { signal: AbortSignal; onLine: (line: string) => void },
  ): Promise<CommandFailure> {
    const line = words.join(" ");
    this.ran.push(line);
    if (!this.commands.has(line)) return Promise.resolve(MISSING);
    return new Promise((resolve) => {
      const end = (failure: CommandFailure) => {
        this.followers.delete(words[0]);
        resolve(failure);
      };
      signal.addEventListener("abort", () => end({ ...MISSING, isMissing: false }));
      this.followers.set(words[0], { onLine, end });
    });
  }

  networkInterfaces(): readonly { name: string; address: string }[] {
    return this.addresses;
  }

  coreTimes(): readonly CoreTimes[] {
    return this.cores;
  }

  disk(): Promise<{ totalBytes: number; availableBytes: number }> {
    const { diskTotal: totalBytes, diskFree: availableBytes } = this;
    if (availableBytes === undefined) return new Promise(() => {});
    return Promise.resolve({ totalBytes, availableBytes });
  }

  uptime(): number {
    return this.now;
  }

  wait(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const waiter = {
        at: this.now + ms,
        wake: () => {
          this.#waiters.delete(waiter);
          resolve();
        },
      };
      this.#waiters.add(waiter);
      signal.addEventListener("abort", waiter.wake);
    });
  }

  /** Lets time pass; all that wakes meanwhile goes as far as it can. */
  async pass(ms = 0): Promise<void> {
    const until = this.now + ms;
    await settled();
    for (let next = this.#next(until); next; next = this.#next(until)) {
      this.now = next.at;
      next.wake();
      await settled();
    }
    this.now = until;
  }

  /** A program that goes on says a line. */
  say(program: string, line: string): void {
    this.followers.get(program)?.onLine(line);
  }

  /** Waits that nobody has ended. */
  get waitCount(): number {
    return this.#waiters.size;
  }

  #next(until: number): Waiter | undefined {
    const due = [...this.#waiters].filter(({ at }) => at <= until);
    return due.reduce<Waiter | undefined>(
      (first, one) => first && first.at <= one.at ? first : one,
      undefined,
    );
  }
}
