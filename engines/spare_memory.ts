import { cgroupMemory } from "../core/cgroup_memory.ts";

/** Share of the machine's memory that is left to others, within these limits. */
const RESERVE_SHARE = 0.05;
const RESERVE_BYTES_MIN = 64 * 2 ** 20;
const RESERVE_BYTES_MAX = 2 ** 30;

/** How long a figure holds: memory changes more slowly than steps follow each other. */
const FRESH_MS = 250;

/** What a {@linkcode SpareMemory} looks at; tests bring their own. */
export interface SpareMemoryDeps {
  /** Milliseconds on a steady clock. */
  readonly now: () => number;
  readonly system?: () => { readonly total: number; readonly available: number };
  readonly readFile?: (path: string) => string | undefined;
}

/** Memory that may be taken without driving the system, or this control group, out of it. */
export class SpareMemory {
  readonly #deps: Required<SpareMemoryDeps>;
  #bytes = 0;
  #readAt = -Infinity;

  constructor({ now, system = Deno.systemMemoryInfo, readFile = readText }: SpareMemoryDeps) {
    this.#deps = { now, system, readFile };
  }

  /** Bytes as of a moment ago; below 0 as many as the reserve is short of. */
  bytes(): number {
    const { now, system, readFile } = this.#deps;
    const at = now();
    if (at - this.#readAt < FRESH_MS) return this.#bytes;
    this.#readAt = at;
    const { total, available } = system();
    const group = cgroupMemory(readFile);
    const inGroup = group ? group.availableBytes - reserveOf(group.limitBytes) : Infinity;
    return this.#bytes = Math.min(available - reserveOf(total), inGroup);
  }
}

function reserveOf(totalBytes: number): number {
  const share = RESERVE_SHARE * totalBytes;
  return Math.min(RESERVE_BYTES_MAX, Math.max(RESERVE_BYTES_MIN, share));
}

function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined; // Another system, or another version of control groups.
  }
}
