/** How long a joiner needs to take a snapshot in: `deno run bench/core/snapshot.ts`. */
import { decodeState, encodeState } from "../../core/state.ts";
import { busyCluster } from "./busy_cluster.ts";

/** The cluster of the bar: 1,000 nodes with links, runners and instances. */
export const SNAPSHOT_CLUSTER = {
  nodes: 1_000,
  edgesPerNode: 4,
  instances: 250,
  ranksPerInstance: 4,
  tasks: 1_000,
};

/** Longest time that taking the snapshot in may take. */
export const INSTALL_MS_MAX = 100;

/** Times that it is taken in; the best counts, since the machine has other work. */
const ROUNDS = 9;

/** The text of a snapshot, and how long it takes to make a state of it. */
export function snapshotInstall(
  { cluster = SNAPSHOT_CLUSTER } = {},
): { readonly bytes: number; readonly installMs: number; readonly encodeMs: number } {
  const state = busyCluster(cluster);
  const encodeMs = best(() => encodeState(state));
  const text = encodeState(state);
  return { bytes: text.length, installMs: best(() => decodeState(text)), encodeMs };
}

function best(work: () => unknown): number {
  return Math.min(...Array.from({ length: ROUNDS }, () => {
    const from = performance.now();
    work();
    return performance.now() - from;
  }));
}

if (import.meta.main) {
  const line = `${JSON.stringify(snapshotInstall())}\n`;
  Deno.stdout.writeSync(new TextEncoder().encode(line));
}
