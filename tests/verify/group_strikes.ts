/** How each fault is made to happen, what shows that it did, and what mends its cause. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { LINK_SILENCE_MS } from "../../net/transport.ts";
import type { Cluster } from "../support/cluster.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually, isAlive } from "../support/eventually.ts";
import { FLOOD_BYTES } from "../support/orders.ts";
import { isStopped, residentBytes, writtenBytes } from "../support/process_state.ts";
import type { GroupCell, GroupFault, GroupStage } from "./group_faults.ts";
import { readLate } from "./slow_strike.ts";

/**
 * How long a node is stopped and nobody reads its runner's pipe: with what links are silent for
 * anyway between two pings, 1.4 s, too short for the node to be taken for lost.
 */
const FULL_PIPE_MS = LINK_SILENCE_MS / 3;

/** What each pipe takes, if nobody reads; far more than else is written. Source: Linux, PIPE_BUF. */
const PIPE_BYTES_MIN = 4_096;

/** Memory that a runner has taken when it is certain that it goes on until there is none. */
const EXHAUSTING_BYTES = 268_435_456;

/** How long a fault may take to be seen, where the cluster decides when. */
const PATIENCE_MS = 120_000;

/** Where the ranks are, and which of them is struck. */
export interface Site {
  readonly cluster: Cluster;
  readonly first: ClusterNode;
  readonly struck: ClusterNode;
  readonly model: string;
  /** The struck node's own copy of the model: a folder. */
  readonly modelPath: string;
  readonly engine: GroupCell["engine"];
  /** Whose runner is held in the stage. */
  readonly holder: ClusterNode;
  readonly stage: GroupStage;
  readonly rank: GroupCell["rank"];
  /** Whether the ranks have their weights in memory. */
  readonly isLoaded: boolean;
}

/**
 * Mends the cause of a fault once it has had its effect; what it has broken mends itself.
 * @throws when it had none.
 */
export type Repair = () => Promise<void>;

/** Lets a fault happen. */
export async function strike(fault: GroupFault, site: Site): Promise<Repair> {
  return await STRIKES[fault](site);
}

const STRIKES: Readonly<Record<GroupFault, (site: Site) => Promise<Repair>>> = {
  "runner killed": (site) => signalRunners(site, "SIGKILL"),
  "runner stopped": stopRunners,
  "node killed": async ({ struck }) => {
    assert.equal(await struck.end("SIGKILL"), KILLED);
    return () => struck.start();
  },
  "partition": partition,
  "full pipe": fullPipe,
  "slow client": readLate,
  "out of memory": exhaustRunner,
  "corrupt weights": corruptWeights,
  "illegal order": orderIllegally,
};

/** The exit code of what SIGKILL ends. */
const KILLED = 128 + 9;

async function signalRunners({ struck }: Site, signal: Deno.Signal): Promise<Repair> {
  const pids = await struck.process.runnerPids();
  assert.notEqual(pids.length, 0, "a runner is there to be struck");
  for (const pid of pids) Deno.kill(pid, signal);
  return () => untilGone(pids);
}

async function untilGone(pids: readonly number[]): Promise<void> {
  await eventually("the struck runner is gone", async () => {
    return !(await Promise.all(pids.map(isAlive))).includes(true);
  }, PATIENCE_MS);
}

/** A process that is stopped ends by no means of its own: somebody must see that, and end it. */
async function stopRunners(site: Site): Promise<Repair> {
  const pids = await site.struck.process.runnerPids();
  const repair = await signalRunners(site, "SIGSTOP");
  await eventually("the runner is stopped", async () => {
    return !(await Promise.all(pids.map(isStopped))).includes(false);
  });
  return repair;
}

async function partition({ cluster: { network, nodes }, struck }: Site): Promise<Repair> {
  const others = nodes.filter((node) => node !== struck).map(({ index }) => index);
  const droppedFrames = async () => {
    const counts = await Promise.all(others.map((other) => network.counts(struck.index, other)));
    return counts.reduce((sum, { dropped }) => sum + dropped, 0);
  };
  const before = await droppedFrames();
  await network.cut([struck.index], others);
  return async () => {
    await eventually("the cut has stopped a frame", async () => await droppedFrames() > before);
    await network.heal();
  };
}

/**
 * The node stops for a while, in which its runner reports more than the pipe holds: nobody reads of
 * it, and the rest waits in the runner until the node goes on.
 */
async function fullPipe({ struck: { process, orders } }: Site): Promise<Repair> {
  const { pid } = process;
  const pids = await process.runnerPids();
  const written = async () => {
    return (await Promise.all(pids.map(writtenBytes))).reduce((sum, one) => sum + one, 0);
  };
  const before = await written();
  process.kill("SIGSTOP");
  // From the stop on, however long the order takes to arrive.
  const goesOn = setTimeout(FULL_PIPE_MS).then(async () => {
    const [wasStopped, heldBytes] = [await isStopped(pid), await written() - before];
    process.kill("SIGCONT");
    assert.ok(wasStopped, "nobody has read of the pipe");
    const isFull = heldBytes >= PIPE_BYTES_MIN && heldBytes < FLOOD_BYTES;
    assert.ok(isFull, `the pipe has taken ${heldBytes} bytes of ${FLOOD_BYTES}: a part`);
  });
  // What it says is heard at the repair.
  goesOn.catch(() => {});
  await eventually("the node is stopped", () => isStopped(pid));
  await orders.give("flood");
  return async () => {
    await goesOn;
    await eventually("the runner has said all of it", async () => {
      return await written() - before >= FLOOD_BYTES;
    });
  };
}

async function exhaustRunner({ struck }: Site): Promise<Repair> {
  const pids = await struck.process.runnerPids();
  const occupied = async () => Math.max(...await Promise.all(pids.map(residentBytes)));
  const before = await occupied();
  await struck.orders.give("exhaust");
  await eventually("the runner takes memory", async () => {
    // It may be gone before it was seen to have taken so much.
    const isGone = (await Promise.all(pids.map(isAlive))).includes(false);
    return isGone || await occupied() - before > EXHAUSTING_BYTES;
  });
  return () => untilGone(pids);
}

/** What a runner says of weights that it cannot read, by their header or later: which, and why. */
const REFUSED = /runner .* failed: .*Cannot (?:read "model\.safetensors"|load "random"): \S+/;

async function corruptWeights(site: Site): Promise<Repair> {
  const { struck, modelPath, isLoaded } = site;
  const path = join(modelPath, "model.safetensors");
  const whole = await Deno.readFile(path);
  const saidBefore = (await struck.log()).length;
  // Another length than the header says, and bytes that are none of the weights'.
  await Deno.writeFile(path, new Uint8Array(64).fill(0xff));
  // Only a successor reads them again: it must say what is wrong, and be tried again.
  if (isLoaded) await signalRunners(site, "SIGKILL");
  return async () => {
    await eventually("a runner has said what is wrong with its weights", async () => {
      return REFUSED.test((await struck.log()).slice(saidBefore));
    }, PATIENCE_MS);
    await Deno.writeFile(path, whole);
  };
}

/** The runner refuses the order by its name, and lives on. */
async function orderIllegally({ struck, stage }: Site): Promise<Repair> {
  const pids = await struck.process.runnerPids();
  await struck.orders.give("illegal");
  return async () => {
    const illegal = stage === "connect" ? "StartWarmup" : "ConnectToGroup";
    await eventually(`the runner has refused ${illegal}`, async () => {
      return await struck.orders.refused() === illegal;
    });
    assert.ok((await Promise.all(pids.map(isAlive))).every(Boolean), "it lives on");
  };
}
