import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** What a folder holds: part of its name. */
export type FolderKind = "prefill" | "jaccl";

/** Which process a folder belongs to. */
interface Owner {
  /** Container: ids of processes mean nothing outside of it. */
  readonly namespace: string;
  readonly pid: number;
  /** When it started: ids of processes are given out again. */
  readonly startedAt: string;
}

/** `exo-prefill-4026531836.4711.8309549-` and six random signs. */
const NAME = /^exo-([a-z]+)-(\d+)\.(\d+)\.(\d+)-/;

/** Where temporary files lie. */
export function tempFolder(): string {
  return tmpdir();
}

/** Makes a folder of this process, which nobody else may look into. */
export function makeProcessFolder(kind: FolderKind, dir: string): string {
  const { namespace, pid, startedAt } = self();
  return Deno.makeTempDirSync({ dir, prefix: `exo-${kind}-${namespace}.${pid}.${startedAt}-` });
}

/** Removes the folders of processes that are gone: one that was killed left them. */
export function sweepFolders(kind: FolderKind, dir: string): void {
  for (const name of namesIn(dir)) {
    const owner = ownerOf(name, kind);
    if (!owner || isAlive(owner)) continue;
    try {
      Deno.removeSync(join(dir, name), { recursive: true });
    } catch {
      // Of another user, or another node sweeps at the same time.
    }
  }
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}

function ownerOf(name: string, wanted: FolderKind): Owner | undefined {
  const [, kind, namespace = "", pid, startedAt = ""] = NAME.exec(name) ?? [];
  return kind === wanted ? { namespace, pid: Number(pid), startedAt } : undefined;
}

function self(): Owner {
  return { namespace: ownNamespace(), pid: Deno.pid, startedAt: startOf(Deno.pid) ?? "0" };
}

/** What cannot be told to be gone counts as alive. */
function isAlive({ namespace, pid, startedAt }: Owner): boolean {
  if (namespace !== ownNamespace()) return true;
  const start = startOf(pid);
  if (start !== undefined) return start === startedAt;
  try {
    process.kill(pid, 0);
    return true;
  } catch (cause) {
    return (cause as { code?: string }).code !== "ESRCH";
  }
}

/** 0 where a system has no such thing. */
function ownNamespace(): string {
  try {
    return /\d+/.exec(Deno.readLinkSync("/proc/self/ns/pid"))?.[0] ?? "0";
  } catch {
    return "0";
  }
}

/** Clock ticks from the boot to the start of a process; undefined where nobody tells (macOS). */
function startOf(pid: number): string | undefined {
  try {
    // Source: proc_pid_stat(5). The second field may have spaces and brackets in it.
    return Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ")[19];
  } catch {
    return undefined;
  }
}
