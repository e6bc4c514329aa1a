/** What three nodes on a network owe each other and their clients: each part is a story. */
import assert from "node:assert/strict";
import { type Cluster, startCluster } from "../support/cluster.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually } from "../support/eventually.ts";
import { commandAll } from "./commands.ts";
import { killMaster, type RealModel } from "./succession.ts";
import type { Say, Tally } from "./tally.ts";
import { DISCOVERY_MS_MAX, ms, THREE, threeThatMet } from "./three_nodes.ts";

/** From when a cable is pulled until nobody counts on it, and from when it is in until all do. */
const UNPLUGGED_MS_MAX = 5_000;
const PLUGGED_MS_MAX = 5_000;

/** How long nodes are looked at that have nothing to do. */
const IDLE_MS = 60_000;
/** A node that has just started is not idle: V8 still compiles what runs often. */
const WARM_MS = 60_000;
const IDLE_CPU_SHARE_MAX = 0.01;

const PATIENCE_MS = 60_000;

/** The last of three nodes starts. */
export async function discoverLast(say: Say): Promise<void> {
  await using cluster = await startCluster({ ...THREE, startLater: [2] });
  await cluster.met(PATIENCE_MS);
  await cluster.node(2).start();
  await requireMet(cluster, say);
}

/** All three start at once. */
async function discoverAll(say: Say): Promise<void> {
  await using cluster = await startCluster(THREE);
  await requireMet(cluster, say);
}

async function requireMet(cluster: Cluster, say: Say): Promise<void> {
  const metMs = await cluster.met(DISCOVERY_MS_MAX);
  const agreedMs = await cluster.agree(DISCOVERY_MS_MAX - metMs);
  await cluster.master();
  say(`  all edges after ${ms(metMs)}, equal states ${ms(agreedMs)} later`);
}

/** Pulls the cable of one node after the other, and puts it in again. */
async function pullCables(say: Say): Promise<void> {
  await using cluster = await threeThatMet();
  for (const node of cluster.nodes) {
    const others = cluster.nodes.filter((other) => other !== node);
    const nodeId = node.nodeId;
    await cluster.network.unplug(node.index);
    const goneMs = await took(`node ${node.index} is out`, UNPLUGGED_MS_MAX, async () => {
      const counts = await Promise.all(others.map((other) => edgesOf(other, nodeId)));
      return counts.every((count) => count === 0);
    });
    await cluster.network.plug(node.index);
    const backMs = await cluster.met(PLUGGED_MS_MAX);
    const agreedMs = await cluster.agree(PLUGGED_MS_MAX);
    say(
      `  cable of node ${node.index}: edges gone after ${ms(goneMs)}, back ${ms(backMs)} after ` +
        `it is in again, equal ${ms(agreedMs)} later`,
    );
  }
}

/** Edges from and to a node that another knows of. */
async function edgesOf(other: ClusterNode, nodeId: string): Promise<number> {
  const { connections } = (await other.state()).topology;
  const all = Object.entries(connections).flatMap(([source, sinks]) =>
    Object.entries(sinks).flatMap(([sink, edges]) =>
      source === nodeId || sink === nodeId ? edges : []
    )
  );
  return all.length;
}

async function took(
  what: string,
  limitMs: number,
  predicate: () => Promise<boolean>,
): Promise<number> {
  const startedAt = performance.now();
  await eventually(what, predicate, limitMs);
  return performance.now() - startedAt;
}

/** Three nodes that have nothing to do. */
async function idle(say: Say): Promise<void> {
  await using cluster = await threeThatMet();
  await pause(WARM_MS);
  const cpuMs = () => Promise.all(cluster.nodes.map((node) => node.cpuMs()));
  const before = await cpuMs();
  const startedAt = performance.now();
  await pause(IDLE_MS);
  const tookMs = performance.now() - startedAt;
  const shares = (await cpuMs()).map((after, n) => (after - (before[n] ?? 0)) / tookMs);
  const percent = shares.map((share) => `${(share * 100).toFixed(2)} %`).join(", ");
  say(`  CPU of each node over ${ms(tookMs)}: ${percent}`);
  assert.ok(shares.every((share) => share <= IDLE_CPU_SHARE_MAX), `${percent} of a CPU when idle`);
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

type Part = (say: Say, real?: RealModel) => Promise<void>;

/** The parts of the bar, in order. */
export const NETWORK_PARTS: Readonly<Record<string, Part>> = {
  "the last of three nodes is found": discoverLast,
  "three nodes that start at once find each other": discoverAll,
  "each command at each node": commandAll,
  "kill -9 of the master under an answer": (say) => killMaster(say),
  "kill -9 of the master under an answer of a real model": (say, real) => killMaster(say, real),
  "cables that are pulled": pullCables,
  "three nodes that have nothing to do": idle,
};

/** Runs the parts from one number to another, each so many times. */
export async function verifyNetwork(
  { from, to, rounds, real }: {
    readonly from: number;
    readonly to: number;
    readonly rounds: number;
    readonly real: RealModel;
  },
  say: Say,
): Promise<Tally> {
  let [passed, failed] = [0, 0];
  for (const [n, [name, part]] of Object.entries(NETWORK_PARTS).entries()) {
    if (n < from || n > to) continue;
    for (let round = 1; round <= rounds; round++) {
      try {
        await part(say, real);
        passed++;
        say(`${n} ${name}: ok (round ${round})`);
      } catch (cause) {
        failed++;
        say(`${n} ${name}: FAILED in round ${round}: ${String(cause)}`);
        say(`  replay: deno task verify network --from ${n} --to ${n}`);
      }
    }
  }
  return { passed, failed };
}
