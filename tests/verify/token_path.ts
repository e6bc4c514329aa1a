/** What the way from another node's runner adds to each token, beside that from one's own. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { percentile } from "../../bench/statistics.ts";
import { type Cluster, startCluster, TINY_MODEL } from "../support/cluster.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import type { Say } from "./tally.ts";
import { placeOn } from "./three_nodes.ts";

/** The most that the middle token may take longer (issue 8). */
const ADDED_MS_MAX = 1;

/** Answers of each node, in turn, after one of each that does not count. */
const ROUNDS = 10;

/** Tokens of an answer, and how long the engine takes for one: as a quick model does. */
const TOKENS = 200;
const STEP_MS = 5;

const PATIENCE_MS = 60_000;

/**
 * Two nodes of this machine, and a model on the first: how old its tokens are when a client of the
 * first and of the second node has them. The engine says of each token when it was made.
 * @throws when the middle token is more than `ADDED_MS_MAX` older at the second.
 */
export async function measureTokenPath(say: Say): Promise<void> {
  await using cluster = await startCluster({
    nodes: 2,
    engine: { stepMs: STEP_MS, tokens: Array.from({ length: TOKENS }, () => "x"), isDated: true },
  });
  const [own, other] = await met(cluster);
  const { model } = await placeOn(own, TINY_MODEL);
  const ages = new Map<ClusterNode, number[]>([[own, []], [other, []]]);
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [node, all] of ages) {
      const told = await agesAt(node, model);
      if (round > 0) all.push(...told);
    }
  }
  const of = (node: ClusterNode, percent: number) =>
    percentile(ages.get(node) ?? [], percent) ?? NaN;
  const line = (percent: number) =>
    `p${percent}: ${of(own, percent).toFixed(2)} ms at its own node, ` +
    `${of(other, percent).toFixed(2)} at another`;
  for (const percent of [50, 90, 99]) say(line(percent));
  const added = of(other, 50) - of(own, 50);
  say(`the way between nodes adds ${added.toFixed(2)} ms to the middle token`);
  assert.ok(added <= ADDED_MS_MAX, `it adds ${added} ms, ${ADDED_MS_MAX} at most`);
}

async function met(cluster: Cluster): Promise<[ClusterNode, ClusterNode]> {
  await cluster.met(PATIENCE_MS);
  await cluster.agree(PATIENCE_MS);
  return [cluster.node(0), cluster.node(1)];
}

/** How old each token of an answer was when it came, in milliseconds; of all of them. */
async function agesAt({ client }: ClusterNode, model: string): Promise<number[]> {
  const ages: number[] = [];
  const messages = [{ role: "user" as const, content: randomUUID() }];
  for await (const event of client.chat({ model, messages })) {
    if (event.type !== "text") continue;
    const now = performance.timeOrigin + performance.now();
    for (const made of event.text.split(" ")) if (made !== "") ages.push(now - Number(made));
  }
  assert.equal(ages.length, TOKENS, "each token tells when it was made");
  assert.ok(ages.every(Number.isFinite), `each tells a time: ${ages}`);
  return ages;
}
