import assert from "node:assert/strict";
import { ensureSetup } from "../../ffi/setup.ts";
import { startCluster, TINY_MODEL } from "../support/cluster.ts";
import { answerOf } from "../support/cluster_client.ts";
import { exo } from "../support/exo_process.ts";
import { TempDir } from "../support/temp_dir.ts";

/** How long nodes of one machine may take to meet while it is busy. */
const PATIENCE_MS = 30_000;

Deno.test("nodes of one machine meet by address, and one serves what another has", async () => {
  await ensureSetup();
  await using cluster = await startCluster({ nodes: 2, engine: { tokens: ["from ", "afar"] } });
  await cluster.met(PATIENCE_MS);
  const [asked, worker] = cluster.nodes;
  assert.ok(asked && worker);
  const { id: model } = await worker.client.addModel(TINY_MODEL);
  const { instanceId } = await asked.client.placeInstance({ model, nodeIds: [worker.nodeId] });
  for await (const _ of asked.client.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
  const answer = await answerOf(asked.client, { model, content: "where?" }, PATIENCE_MS);
  assert.deepEqual([answer.end, answer.text], ["stop", "from afar"]);
  assert.equal((await asked.process.runnerPids()).length, 0, "the asked node computes nothing");
  await cluster.agree(PATIENCE_MS);
});

Deno.test("who has no secret, another, or another namespace gets nothing of a cluster", async () => {
  await ensureSetup();
  await using dir = await TempDir.make();
  const [ours, others] = await Promise.all(["ours", "others"].map(async (name) => {
    const { code, stdout } = await exo("cluster", "secret", "new");
    assert.equal(code, 0);
    await Deno.writeTextFile(`${dir.path}/${name}`, stdout, { mode: 0o600 });
    return ["--cluster-secret", `${dir.path}/${name}`];
  }));
  assert.ok(ours && others);
  const strangers = [2, 3, 4];
  const flagsOf = (index: number) =>
    [ours, ours, [], others, [...ours, "--namespace", "elsewhere"], ours][index] ?? [];
  await using cluster = await startCluster({ nodes: 6, startLater: [5], flagsOf });
  const friends = [0, 1].map((index) => cluster.node(index));
  await cluster.met(PATIENCE_MS, friends);
  // Strangers have had more time for it than the last of the friends takes.
  await cluster.node(5).start();
  await cluster.met(PATIENCE_MS, [...friends, cluster.node(5)]);
  for (const stranger of strangers.map((index) => cluster.node(index))) {
    const { topology, session } = await stranger.state();
    assert.deepEqual(topology.nodes, [stranger.nodeId]);
    assert.equal(session?.masterNodeId, stranger.nodeId);
  }
});
