/** Most connections at once, where the system permits as many; further ones are closed at once. */
export const CONNECTIONS_MAX = 4_096;

/** Share of a process's descriptors that connections may take; files and runners need the rest. */
const CONNECTIONS_SHARE = 0.5;

/** Where Linux tells the limits of this process. */
const LIMITS_FILE = "/proc/self/limits";

/** Most connections that a process with so many descriptors should take. */
export function connectionsFor(descriptorsMax: number): number {
  return Math.max(1, Math.min(CONNECTIONS_MAX, Math.floor(descriptorsMax * CONNECTIONS_SHARE)));
}

/**
 * How many descriptors this process may have. Infinity where that is not told, as on macOS, whose
 * limit Deno raises beyond what we use.
 */
export async function descriptorsMax(): Promise<number> {
  try {
    return parseLimits(await Deno.readTextFile(LIMITS_FILE));
  } catch {
    return Infinity;
  }
}

/** The soft limit of open files in the text of `/proc/self/limits`. */
export function parseLimits(text: string): number {
  const found = /^Max open files\s+(\d+)/m.exec(text)?.[1];
  return found === undefined ? Infinity : Number(found);
}
