import { setInterval } from "node:timers/promises";

/** How often a condition outside our own process is looked at, and for how long. */
const LOOK_MS = 10;
const PATIENCE_MS = 20_000;

/** Resolves once `predicate` holds; for what sends no event, such as the end of a process. */
export async function eventually(
  what: string,
  predicate: () => boolean | Promise<boolean>,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const started = performance.now();
  for await (const _ of setInterval(LOOK_MS)) {
    if (await predicate()) return;
    if (performance.now() - started > patienceMs) throw new Error(`Waited in vain until ${what}`);
  }
}

/** Whether a process of this id exists and is not a zombie. */
export async function isAlive(pid: number): Promise<boolean> {
  try {
    const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
    return !/^\d+ \(.*\) Z/.test(stat);
  } catch {
    return false;
  }
}
