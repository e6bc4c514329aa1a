import assert from "node:assert/strict";
import { ensureSetup } from "../../ffi/setup.ts";
import { startCluster, TINY_MODEL } from "../support/cluster.ts";
import { answerOf } from "../support/cluster_client.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { within } from "../support/eventually.ts";
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
  const engine = { endless: true, stepMs: 10 };
  await using cluster = await startCluster({ nodes: 6, startLater: [5], flagsOf, engine });
  const [asked, worker, last] = [0, 1, 5].map((index) => cluster.node(index));
  assert.ok(asked && worker && last);
  await cluster.met(PATIENCE_MS, [asked, worker]);
  await using held = await holdAnswer(asked, worker);
  // Strangers have had more time for it than the last of the friends takes.
  await last.start();
  const friends = [asked, worker, last];
  await cluster.met(PATIENCE_MS, friends);
  await cluster.agree(PATIENCE_MS, friends);
  const known = [...friends.map(({ nodeId }) => nodeId), ...held.ids];
  for (const index of strangers) {
    const stranger = cluster.node(index);
    for (const friend of friends) await requireNamed(friend, known, [stranger.nodeId]);
    await requireNamed(stranger, [stranger.nodeId], known);
    const { topology, session, instances, runners, tasks } = await stranger.state();
    assert.deepEqual(topology.nodes, [stranger.nodeId]);
    assert.equal(session?.masterNodeId, stranger.nodeId);
    assert.deepEqual([instances, runners, tasks], [{}, {}, {}]);
    const { end } = await answerOf(stranger.client, { ...held, content: "hello?" }, PATIENCE_MS);
    assert.match(end, /model/i, "a stranger serves nothing that the cluster has");
  }
  assert.equal(Object.keys((await last.state()).tasks).length, 1, "the answer is still under way");
});

/** An instance on one node, and an answer of it that another holds open until it is disposed. */
async function holdAnswer(asked: ClusterNode, worker: ClusterNode) {
  const { id: model } = await worker.client.addModel(TINY_MODEL);
  const { instanceId } = await asked.client.placeInstance({ model, nodeIds: [worker.nodeId] });
  for await (const _ of asked.client.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
  const messages = [{ role: "user" as const, content: "for ever" }];
  const events = asked.client.chat({ model, messages });
  for (let isText = false; !isText;) {
    const { value, done } = await within("the first words", events.next(), PATIENCE_MS);
    assert.ok(!done, "the answer has no end");
    isText = value.type === "text";
  }
  const [taskId] = Object.keys((await asked.state()).tasks);
  assert.ok(taskId);
  return {
    model,
    ids: [model, instanceId, taskId],
    [Symbol.asyncDispose]: async () => void await events.return(undefined),
  };
}

/** A node's state and its list of models name all of these, and none of those. */
async function requireNamed(
  { client, index }: ClusterNode,
  all: readonly string[],
  none: readonly string[],
): Promise<void> {
  const text = JSON.stringify([await client.state(), await client.listModels()]);
  for (const id of all) assert.ok(text.includes(id), `node ${index} knows ${id}`);
  for (const id of none) assert.ok(!text.includes(id), `node ${index} knows nothing of ${id}`);
}
