/** What the system tells of processes. Source: Linux, proc(5). */

/** Whether a process has been stopped by a signal and does nothing. */
export async function isStopped(pid: number): Promise<boolean> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => "");
  return /^\d+ \(.*\) T/s.test(stat);
}

/** The memory that a process occupies; none when it is gone. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${pid}/status`).catch(() => "");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1_024;
}

/** What a process has written so far, to files and pipes of all kinds; none when it is gone. */
export async function writtenBytes(pid: number): Promise<number> {
  const io = await Deno.readTextFile(`/proc/${pid}/io`).catch(() => "");
  return Number(/^wchar: (\d+)$/m.exec(io)?.[1] ?? 0);
}

/** Processes that were started with this variable, whoever is their parent now; no zombies. */
export async function processesWith(variable: string): Promise<number[]> {
  const found: number[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    // It may end while we look, and others' cannot be read.
    const environment = await Deno.readTextFile(`/proc/${name}/environ`).catch(() => "");
    if (environment.split("\0").includes(variable)) found.push(Number(name));
  }
  return found.sort((a, b) => a - b);
}
