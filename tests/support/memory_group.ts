import { eventually } from "./eventually.ts";

/** Where a version of control groups keeps what we need. */
interface Layout {
  readonly root: string;
  readonly limit: string;
  /** Taken by memory and swap together, or by swap. */
  readonly swap: (limitBytes: number) => readonly [file: string, bytes: number];
  readonly peak: string;
  /** Has a line `oom_kill N`. */
  readonly events: string;
}

const V1: Layout = {
  root: "/sys/fs/cgroup/memory",
  limit: "memory.limit_in_bytes",
  swap: (limitBytes) => ["memory.memsw.limit_in_bytes", limitBytes],
  peak: "memory.max_usage_in_bytes",
  events: "memory.oom_control",
};

const V2: Layout = {
  root: "/sys/fs/cgroup",
  limit: "memory.max",
  swap: () => ["memory.swap.max", 0],
  peak: "memory.peak",
  events: "memory.events",
};

/**
 * A control group of its own with a limit on memory, for processes that a test starts. Source:
 * cgroup-v1/memory and cgroup-v2 of the Linux kernel's documentation.
 */
export class MemoryGroup implements AsyncDisposable {
  readonly limitBytes: number;
  readonly #layout: Layout;
  readonly #path: string;

  private constructor(layout: Layout, path: string, limitBytes: number) {
    this.#layout = layout;
    this.#path = path;
    this.limitBytes = limitBytes;
  }

  /** Undefined where the system does not let us make one. */
  static make(limitBytes: number): MemoryGroup | undefined {
    for (const layout of [V1, V2]) {
      for (const parent of [ownGroup(layout), layout.root]) {
        const path = `${parent}/exo-test-${crypto.randomUUID()}`;
        if (tryMake(layout, path, limitBytes)) return new MemoryGroup(layout, path, limitBytes);
      }
    }
    return undefined;
  }

  /** The words before a command that run it, and all that it starts, in this group. */
  get wrap(): readonly string[] {
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', this.#path];
  }

  /** Processes that the system has ended because the group had no memory left. */
  oomKills(): number {
    const events = Deno.readTextFileSync(`${this.#path}/${this.#layout.events}`);
    const kills = /^oom_kill (\d+)$/m.exec(events)?.[1];
    if (kills === undefined) throw new Error(`Cannot count kills: found "${events}"`);
    return Number(kills);
  }

  /** Most that was held at once, page cache included; NaN where the system does not say. */
  peakBytes(): number {
    try {
      return Number(Deno.readTextFileSync(`${this.#path}/${this.#layout.peak}`));
    } catch {
      return NaN; // Version 2 before Linux 5.19.
    }
  }

  /** Removes it once its processes have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await eventually("the control group is empty", () => {
      try {
        Deno.removeSync(this.#path);
        return true;
      } catch {
        return false;
      }
    });
  }
}

/** The group of this process, where others may lie in it. */
function ownGroup({ root }: Layout): string {
  const lines = Deno.readTextFileSync("/proc/self/cgroup").split("\n");
  const own = lines.map((line) => line.split(":"))
    .find(([number, names]) => root === V1.root ? names === "memory" : number === "0");
  return `${root}${own?.[2] ?? ""}`.replace(/\/$/, "");
}

function tryMake(layout: Layout, path: string, limitBytes: number): boolean {
  try {
    Deno.mkdirSync(path);
  } catch {
    return false;
  }
  try {
    Deno.statSync(`${path}/${layout.limit}`); // Else the folder is one like any other.
    Deno.writeTextFileSync(`${path}/${layout.limit}`, String(limitBytes));
  } catch {
    Deno.removeSync(path);
    return false;
  }
  try {
    const [file, bytes] = layout.swap(limitBytes);
    Deno.writeTextFileSync(`${path}/${file}`, String(bytes));
  } catch {
    // A system that does not account for swap; one without any needs no limit on it.
  }
  return true;
}
