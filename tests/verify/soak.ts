/** Three nodes under load for an hour: what they hold, what they drop, and who can still join. */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { median } from "../../bench/statistics.ts";
import { LOG_FILE } from "../../node/event_log.ts";
import { type Cluster, TINY_MODEL } from "../support/cluster.ts";
import { ClusterLoad } from "../support/cluster_load.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { metricIn } from "../support/metric.ts";
import type { Say } from "./tally.ts";
import { ms, settled, threeThatMet } from "./three_nodes.ts";

/** The load: short answers, some of which are left, and now and then an instance more and less. */
const LOAD = { clients: 4, wordsMax: 60, answerMsMax: 20_000, leftShare: 0.1 };
const STEP_MS = 10;
const INSTANCES = 2;

/** Looks at the nodes over the whole time; an hour has one a minute. */
const SAMPLES = 60;
/** Samples while nodes still warm up, and how many are compared then and at the end. */
const WARM_SAMPLES = 10;
const COMPARED_SAMPLES = 10;
const GROWTH_MAX = 0.05;

/** Most of a node's log: a snapshot, the tail that it keeps, and what SQLite has yet to move. */
const LOG_BYTES_MAX = 16 * 1_048_576;
const LOG_ROWS_MAX = 2_000;

/** From when a node without any data serves until it has all that the others have. */
const REJOIN_MS_MAX = 2_000;

/** Counts messages that a queue had no room for (docs/operating.md). */
const DROPPED = "exo_network_dropped_total";

/** How long, and who hears of it. */
export interface SoakOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly say: Say;
}

/** What a node held at one time. */
interface Sample {
  readonly residentBytes: number;
  readonly liveBytes: number;
  readonly logBytes: number;
  readonly dropped: number;
}

/**
 * Puts load on three nodes for some time, and asserts that they do not grow, drop nothing, and let
 * a node in that has nothing.
 * @throws what did not hold.
 */
export async function soak({ minutes, seed, say }: SoakOptions): Promise<void> {
  await using cluster = await threeThatMet({ engine: { stepMs: STEP_MS }, isMeasured: true });
  let model = "";
  for (const { client } of cluster.nodes) model = (await client.addModel(TINY_MODEL)).id;
  for (const { client, nodeId } of cluster.nodes.slice(0, INSTANCES)) {
    await client.createMetaInstance({ model, nodeIds: [nodeId] });
  }
  await settled(cluster, cluster.node(0), INSTANCES);
  const load = new ClusterLoad(cluster, { ...LOAD, model, seed });
  const periodMs = minutes * 60_000 / SAMPLES;
  const samples: Sample[][] = [];
  for (let n = 0; n < SAMPLES; n++) {
    const over = pause(periodMs);
    await comeAndGo(cluster.nodes[n % cluster.nodes.length], model);
    await over;
    const taken = await Promise.all(cluster.nodes.map(sampleOf));
    samples.push(taken);
    const { whole, left, broken } = load.report();
    const errors = JSON.stringify([...broken]);
    say(`${n + 1}/${SAMPLES}: ${whole} answers, ${left} left, errors ${errors}; ${told(taken)}`);
  }
  const report = await load.stop();
  await settled(cluster, cluster.node(0), INSTANCES);
  await rejoin(cluster, say);
  for (const { index } of cluster.nodes) {
    requireBounded(index, samples.map((taken) => taken[index]).filter((one) => one !== undefined));
  }
  // Last: an answer that broke off says nothing of what the nodes hold.
  assert.deepEqual([...report.broken], [], "every answer was whole");
}

/** One instance more, for as long as it takes to create it and take it away. */
async function comeAndGo(node: ClusterNode | undefined, model: string): Promise<void> {
  assert.ok(node);
  const { client, nodeId } = node;
  const { instanceId } = await client.placeInstance({ model, nodeIds: [nodeId] });
  await client.deleteInstance(instanceId);
}

async function sampleOf(node: ClusterNode): Promise<Sample> {
  const liveBytes = await node.liveBytes();
  const residentBytes = await node.residentBytes();
  const [dropped, logBytes] = await Promise.all([droppedBy(node), logBytesOf(node)]);
  return { liveBytes, residentBytes, dropped, logBytes };
}

async function droppedBy({ client, index }: ClusterNode): Promise<number> {
  const metrics = await (await fetch(`${client.url}/metrics`)).text();
  const dropped = metricIn(metrics, DROPPED);
  assert.ok(dropped !== undefined, `node ${index} tells ${DROPPED}`);
  return dropped;
}

/** Of the log and of what SQLite has yet to move into it, while a node has it open. */
async function logBytesOf({ dataDir }: ClusterNode): Promise<number> {
  const files = ["", "-wal"].map((end) => Deno.stat(`${dataDir}/${LOG_FILE}${end}`));
  return (await Promise.all(files)).reduce((sum, { size }) => sum + size, 0);
}

function requireBounded(index: number, samples: readonly Sample[]): void {
  for (const [n, { dropped, logBytes }] of samples.entries()) {
    assert.equal(dropped, 0, `node ${index} had dropped ${dropped} messages at sample ${n + 1}`);
    assert.ok(logBytes <= LOG_BYTES_MAX, `node ${index} has a log of ${logBytes} bytes`);
  }
  const warm = samples.slice(WARM_SAMPLES, WARM_SAMPLES + COMPARED_SAMPLES);
  const last = samples.slice(-COMPARED_SAMPLES);
  for (const held of ["residentBytes", "liveBytes"] as const) {
    const [before = NaN, after = NaN] = [warm, last].map((some) =>
      median(some.map((one) => one[held])) ?? NaN
    );
    const figures = `${mib(before)} to ${mib(after)} MiB`;
    assert.ok(after / before - 1 < GROWTH_MAX, `${held} of node ${index} grew from ${figures}`);
  }
}

/** A node loses all that it has, and comes back as another. */
async function rejoin(cluster: Cluster, say: Say): Promise<void> {
  const master = await cluster.master();
  const node = cluster.nodes.find((one) => one !== master);
  assert.ok(node);
  const { lastEventAppliedIdx } = await node.state();
  await node.end("SIGKILL");
  const rows = rowsOf(node);
  const events = lastEventAppliedIdx + 1;
  say(`the log of a node has ${rows} events of ${events}`);
  assert.ok(events > LOG_ROWS_MAX, `only ${events} events: a log that holds all is as short`);
  assert.ok(rows <= LOG_ROWS_MAX, `its log has ${rows} events`);
  await node.wipe();
  await node.start();
  const agreedMs = await cluster.agree(REJOIN_MS_MAX);
  say(`a node without data was as the others ${ms(agreedMs)} after it served`);
  for (const one of cluster.nodes) {
    assert.equal(await droppedBy(one), 0, `node ${one.index} dropped messages in the end`);
  }
}

function rowsOf({ dataDir }: ClusterNode): number {
  using log = new DatabaseSync(`${dataDir}/${LOG_FILE}`);
  return Number(log.prepare("select count(*) as count from events").get()?.["count"]);
}

function told(taken: readonly Sample[]): string {
  const each = taken.map(({ liveBytes, residentBytes, logBytes }) =>
    `${mib(liveBytes)} alive, ${mib(residentBytes)} resident, ${mib(logBytes)} log`
  );
  return `MiB: ${each.join(" | ")}`;
}

const mib = (bytes: number) => (bytes / 1_048_576).toFixed(1);
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
