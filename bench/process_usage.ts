/** What processes and the machine use, read from proc(5); null on systems without it. */
import { setTimeout as delay } from "node:timers/promises";

const CLOCK_TICKS_PER_SECOND = 100;
const KIB = 1_024;

/** CPU seconds so far and resident bytes now and at most, of one process. */
export interface ProcessUsage {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  /** Most that it had at once, mapped files included. */
  readonly peakBytes: number;
}

/** Null when there is no such process, or no /proc. */
export function usageOf(pid: number): ProcessUsage | null {
  const stat = readOr(`/proc/${pid}/stat`);
  const status = readOr(`/proc/${pid}/status`);
  if (stat === "" || status === "") return null;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
  const ticks = (fields[11] ?? 0) + (fields[12] ?? 0);
  const bytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? NaN) * KIB;
  return {
    cpuSeconds: ticks / CLOCK_TICKS_PER_SECOND,
    residentBytes: bytes("VmRSS"),
    peakBytes: bytes("VmHWM"),
  };
}

/** Processes that `pid` has started and that still run. */
export function childrenOf(pid: number): number[] {
  try {
    return [...Deno.readDirSync(`/proc/${pid}/task`)].flatMap(({ name }) =>
      readOr(`/proc/${pid}/task/${name}/children`).split(" ").filter((word) => word !== "")
        .map(Number)
    );
  } catch {
    return [];
  }
}

/** A machine on which others use no more than this is quiet. */
export const QUIET_PERCENT_MAX = 10;

/** The share of all cores that is in use, by anybody, over `ms` milliseconds. */
export async function busyPercent(ms: number, signal: AbortSignal): Promise<number | null> {
  const before = cpuTimes();
  await delay(ms, undefined, { signal });
  const after = cpuTimes();
  if (!before || !after || after.all <= before.all) return null;
  const idle = (after.idle - before.idle) / (after.all - before.all);
  return Math.max(0, Math.round(100 * (1 - idle)));
}

function cpuTimes(): { idle: number; all: number } | null {
  const [first = ""] = readOr("/proc/stat").split("\n");
  const times = first.split(/\s+/).slice(1, 9).map(Number);
  if (times.length < 8) return null;
  const idle = (times[3] ?? 0) + (times[4] ?? 0);
  return { idle, all: times.reduce((sum, time) => sum + time, 0) };
}

function readOr(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
