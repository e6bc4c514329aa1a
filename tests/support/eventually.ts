import { setInterval, setTimeout } from "node:timers/promises";

/** How often a condition outside our own process is looked at, and for how long. */
const LOOK_MS = 10;
const PATIENCE_MS = 20_000;

/**
 * Resolves once `predicate` holds; for what sends no event, such as the end of a process.
 * @throws when it was not found to hold within `patienceMs`: a look that ends later is too late, as
 * limits of the bars are given here.
 */
export async function eventually(
  what: string,
  predicate: () => boolean | Promise<boolean>,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const started = performance.now();
  for await (const _ of setInterval(LOOK_MS)) {
    const holds = await predicate();
    const tookMs = performance.now() - started;
    if (tookMs > patienceMs) {
      const found = holds ? `it was so only after ${Math.round(tookMs)} ms` : "it was not so";
      throw new Error(`Waited ${Math.round(patienceMs)} ms in vain until ${what}: ${found}`);
    }
    if (holds) return;
  }
}

/** What `promise` gives. @throws when it has given nothing after `limitMs`. */
export async function within<T>(what: string, promise: Promise<T>, limitMs: number): Promise<T> {
  const over = new AbortController();
  const late = setTimeout(limitMs, undefined, { signal: over.signal }).then(() => {
    throw new Error(`Waited ${limitMs} ms in vain for ${what}`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
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
