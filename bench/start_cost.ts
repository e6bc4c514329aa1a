import { setTimeout as delay } from "node:timers/promises";
import { type NodeOptions, startNode } from "./exo_server.ts";
import { usageOf } from "./process_usage.ts";
import { median } from "./statistics.ts";
import type { NodeReport, Sample } from "./suite_report.ts";

/** Until a node has ended what it does after its start. */
const SETTLE_MS = 2_000;

/** Starts a node again and again. The first start, which may set things up, does not count. */
export async function startCost(options: NodeOptions, starts: number): Promise<Sample> {
  const all: number[] = [];
  for (let start = 0; start <= starts; start++) {
    const { process, startMs } = await startNode(options);
    await process.stop();
    if (start > 0) all.push(startMs);
  }
  return { median: median(all), all };
}

/** CPU and memory of a node that nobody asks anything. */
export async function idleCost(
  options: NodeOptions,
  { seconds, signal }: { seconds: number; signal: AbortSignal },
): Promise<NodeReport["idle"]> {
  const { process } = await startNode(options);
  await delay(SETTLE_MS, undefined, { signal });
  const before = usageOf(process.pid);
  await delay(seconds * 1_000, undefined, { signal });
  const after = usageOf(process.pid);
  await process.stop();
  if (!before || !after) return { seconds, cpuPercent: null, residentBytes: null };
  const cpuPercent = (after.cpuSeconds - before.cpuSeconds) / seconds * 100;
  return { seconds, cpuPercent, residentBytes: after.residentBytes };
}
