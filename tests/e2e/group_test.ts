/** Instances of several nodes, `exo serve` each, with fake engines that form a real ring. */
import assert from "node:assert/strict";
import { ensureSetup } from "../../ffi/setup.ts";
import { tinyCheckpoint } from "../support/checkpoint.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { answerOf } from "../support/cluster_client.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually } from "../support/eventually.ts";

const PATIENCE_MS = 60_000;

/** How soon a client must hear that a rank has died. */
const HEARD_MS = 2_000;

/** Counts for ever, and not so fast that a test could miss something. */
const ENDLESS = { endless: true, stepMs: 10 };

/** An instance over so many nodes, and its nodes by rank. */
interface Group {
  readonly model: string;
  readonly instanceId: string;
  readonly ranks: readonly ClusterNode[];
}

async function groupOf(cluster: Cluster, size: number): Promise<Group> {
  await cluster.met(PATIENCE_MS);
  let model = "";
  for (const { client, dataDir } of cluster.nodes) {
    const folder = `${dataDir}/tiny`;
    await tinyCheckpoint(folder, { num_hidden_layers: 6 });
    model = (await client.addModel(folder)).id;
  }
  const [asked] = cluster.nodes;
  assert.ok(asked);
  // Only who has told its addresses is known to be of the same machine as another.
  await eventually("all addresses are known", async () => {
    const { nodeNetwork } = await asked.state();
    return cluster.nodes.every(({ nodeId }) => (nodeNetwork[nodeId]?.interfaces.length ?? 0) > 0);
  }, PATIENCE_MS);
  const { instanceId } = await asked.client.placeInstance({ model, minNodes: size });
  await ready(asked, instanceId);
  const { instances } = await asked.state();
  const [instance] = Object.values(instances[instanceId] ?? {});
  assert.ok(instance);
  const { runnerToShard, nodeToRunner } = instance.shardAssignments;
  const rankOf = ([, runnerId]: [string, string]) =>
    Object.values(runnerToShard[runnerId] ?? {})[0]?.deviceRank ?? -1;
  const ranks = Object.entries(nodeToRunner).toSorted((a, b) => rankOf(a) - rankOf(b));
  return { model, instanceId, ranks: ranks.map(([nodeId]) => cluster.byId(nodeId)) };
}

async function ready(node: ClusterNode, instanceId: string): Promise<void> {
  const wait = { timeoutSeconds: PATIENCE_MS / 1_000 };
  for await (const _ of node.client.awaitInstance({ instanceId }, wait));
}

async function runnerOf(node: ClusterNode): Promise<number> {
  const [pid, ...more] = await node.process.runnerPids();
  assert.ok(pid !== undefined && more.length === 0, `one runner, not ${more.length + 1}`);
  return pid;
}

for (const size of [2, 3]) {
  Deno.test(`a rank of ${size} that dies in mid-stream is an error at once, and all is well again`, async () => {
    await ensureSetup();
    await using cluster = await startCluster({ nodes: size, engine: ENDLESS });
    const { model, instanceId, ranks } = await groupOf(cluster, size);
    assert.equal(ranks.length, size);
    const [first] = ranks;
    const last = ranks.at(-1);
    assert.ok(first && last);
    const before = await Promise.all(ranks.map(runnerOf));
    for (const asked of ranks) {
      const answer = await answerOf(
        asked.client,
        { model, content: "a b", maxTokens: 4 },
        PATIENCE_MS,
      );
      assert.deepEqual([answer.end, answer.pieces], ["stop", 4]);
    }
    let diedAt = 0;
    const onPiece = (pieces: number) => {
      if (pieces !== 5) return;
      Deno.kill(before.at(-1) as number, "SIGKILL");
      diedAt = performance.now();
    };
    const broken = await answerOf(first.client, { model, content: "a b", onPiece }, PATIENCE_MS);
    assert.ok(performance.now() - diedAt < HEARD_MS, `${performance.now() - diedAt} ms`);
    assert.match(broken.end, new RegExp(`node-${last.index}|node-${ranks.at(-2)?.index}`));
    assert.ok(broken.pieces >= 5 && !broken.isWhole);
    await eventually("the instance has been retried", async () => {
      return (await first.state()).instanceRetries[instanceId] !== undefined;
    }, PATIENCE_MS);
    await ready(first, instanceId);
    const after = await Promise.all(ranks.map(runnerOf));
    assert.ok(after.every((pid) => !before.includes(pid)), "all ranks are new processes");
    const answer = await answerOf(
      last.client,
      { model, content: "a b", maxTokens: 4 },
      PATIENCE_MS,
    );
    assert.deepEqual([answer.end, answer.pieces], ["stop", 4]);
    await first.client.deleteInstance(instanceId);
    await eventually("all runners are gone", async () => {
      return (await Promise.all(ranks.map((node) => node.process.runnerPids()))).flat().length ===
        0;
    }, PATIENCE_MS);
    await cluster.agree(PATIENCE_MS);
  });
}
