import { fail } from "node:assert/strict";
import { eventually } from "./eventually.ts";

/** Looks without a change after which descriptors are at rest. */
const QUIET_LOOKS = 20;

/** The open descriptors of some processes, by kind, once what was being closed is closed. */
export async function settledDescriptors(pids: readonly number[]): Promise<string[]> {
  let open: string[] = [];
  let quietLooks = 0;
  await eventually("descriptors come to rest", async () => {
    const now = await descriptors(pids);
    quietLooks = now.length === open.length ? quietLooks + 1 : 0;
    open = now;
    return quietLooks >= QUIET_LOOKS;
  });
  return open;
}

/**
 * The open descriptors, by kind, once none is open that was not `before`.
 * @throws those that stayed open.
 */
export async function descriptorsAsBefore(
  pids: readonly number[],
  { before, patienceMs }: { readonly before: readonly string[]; readonly patienceMs?: number },
): Promise<string[]> {
  let open: string[] = [];
  await eventually("descriptors are closed", async () => {
    open = await descriptors(pids);
    return added(before, open).length === 0;
  }, patienceMs).catch(() => fail(`descriptors stayed open: ${added(before, open).join(", ")}`));
  return open;
}

/** What is in `now` more often than in `before`. */
function added(before: readonly string[], now: readonly string[]): string[] {
  const rest = [...now];
  for (const one of before) if (rest.includes(one)) rest.splice(rest.indexOf(one), 1);
  return rest;
}

/** What each open descriptor of some processes is, sorted. Source: Linux, proc(5). */
async function descriptors(pids: readonly number[]): Promise<string[]> {
  return (await Promise.all(pids.map(descriptorsOf))).flat().sort();
}

async function descriptorsOf(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`;
  const found: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    // One may close while we look.
    const target = await Deno.readLink(`${folder}/${name}`).catch(() => undefined);
    if (target !== undefined) found.push(target.replace(/\d+/g, "N"));
  }
  return found;
}
