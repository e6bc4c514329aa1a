/** Several nodes in one process, which find each other in a memory network. */
import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import { runnerIdOf } from "../../core/ids.ts";
import { isReady } from "../../core/master.ts";
import { LINK_SILENCE_MS } from "../../net/transport.ts";
import { eventually } from "../support/eventually.ts";
import { SeveralNodes, tokenIds, untilEqual, untilLinked } from "../support/several_nodes.ts";
import { ask, collect, createInstance, textOf, until, untilReady } from "../support/test_node.ts";

const never = new AbortController().signal;

/** An engine that counts for ever, and not so fast that a test could miss something. */
const ENDLESS = { endless: true, stepMs: 20 };

/** From 0 up, without a gap. */
const counted = (count: number) => Array.from({ length: count }, (_, n) => n);

Deno.test("API node, master and worker may be three nodes, and the answer is whole", async () => {
  await using several = await SeveralNodes.start([{}, {}, {}]);
  const [master, api, worker] = several.members;
  assert.equal(api.node.epoch()?.nodeId, master.node.nodeId);
  const modelId = await several.addModel(worker);
  await several.instanceOn(worker, modelId);
  assert.deepEqual(
    [master, api, worker].map(({ node }) => node.runnerPids().size),
    [0, 0, 1],
  );
  const { promptTokens, chunks } = await api.node.generate(modelId, ask("one two three"), never);
  assert.equal(promptTokens, 3);
  assert.equal(textOf(await collect(chunks)), "one two three");
  await untilEqual(master, api, worker);
  assert.equal(master.node.state().tasks.size, 0);
});

Deno.test("a model that one node holds is placed there, whoever is asked", async () => {
  await using several = await SeveralNodes.start([{}, {}, {}]);
  const [master, api, holder] = several.members;
  const modelId = await several.addModel(holder);
  await until(api.node, "the model is known", (state) => state.customModelCards.has(modelId));
  // A node of which one way is known so far would count as a leaf, which goes first.
  await untilLinked(...several.members);
  for (const { node } of [api, master]) {
    const instanceId = await createInstance(node, modelId);
    const instance = node.state().instances.get(instanceId);
    assert.deepEqual(Object.keys(instance?.shardAssignments.nodeToRunner ?? {}), [
      holder.node.nodeId,
    ]);
  }
  assert.equal(holder.node.runnerPids().size, 2);
});

Deno.test("instances of one model share load by the tasks that they have in flight", async () => {
  await using several = await SeveralNodes.start([ENDLESS, ENDLESS]);
  const [one, other] = several.members;
  const modelId = await several.addModel(one);
  assert.equal(await several.addModel(other), modelId);
  const first = await several.instanceOn(one, modelId);
  const second = await several.instanceOn(other, modelId);
  const clients = counted(4).map(() => new AbortController());
  const asked = async (client = new AbortController()) => {
    clients.push(client);
    return await other.node.generate(modelId, ask("for ever"), client.signal);
  };
  const loads = () => {
    const tasks = [...other.node.state().tasks.values()];
    return [first, second].map((id) => tasks.filter((task) => task.instanceId === id).length);
  };
  const generations = [];
  for (const client of clients.slice(0, 4)) generations.push(await asked(client));
  assert.deepEqual(loads(), [2, 2]);
  const onFirst = [...other.node.state().tasks.values()]
    .flatMap(({ commandId, instanceId }) => instanceId === first ? [commandId] : []);
  for (const [at, { commandId }] of generations.entries()) {
    if (onFirst.includes(commandId)) clients[at]?.abort();
  }
  await until(other.node, "the first instance is idle", () => loads()[0] === 0);
  await asked();
  await asked();
  assert.deepEqual(loads(), [2, 2], "the idle one got both");
  for (const client of clients) client.abort();
  await until(other.node, "all is forgotten", ({ tasks }) => tasks.size === 0);
});

Deno.test("the master's end in mid-stream leaves the stream whole; another leads", async () => {
  await using several = await SeveralNodes.start([{}, {}, ENDLESS]);
  const [master, api, worker] = several.members;
  const modelId = await several.addModel(worker);
  const instanceId = await several.instanceOn(worker, modelId);
  const { chunks } = await api.node.generate(modelId, ask("for ever"), never);
  const read: Chunk[] = [];
  let closedAt: number | undefined;
  let ledAt: number | undefined;
  let left: number | undefined;
  for await (const chunk of chunks) {
    read.push(chunk);
    if (chunk.type !== "Token") continue;
    if (chunk.tokenId === 5) {
      await master.transport.close();
      closedAt = performance.now();
    }
    const leader = api.node.epoch()?.nodeId;
    if (closedAt !== undefined && leader !== undefined && leader !== master.node.nodeId) {
      ledAt ??= performance.now();
      left ??= chunk.tokenId + 50;
    }
    if (chunk.tokenId === left) break;
  }
  assert.ok(ledAt !== undefined && closedAt !== undefined, "nobody leads");
  assert.ok(ledAt - closedAt < 3_000, `${ledAt - closedAt} ms without a master`);
  const ids = tokenIds(read);
  assert.deepEqual(ids, counted(ids.length), "no token lost, none repeated");
  const heir = await several.master([api, worker]);
  assert.ok(isReady(heir.node.state(), several.instance(heir, instanceId)));
  assert.equal(worker.node.runnerPids().size, 1);
  await until(worker.node, "the task is forgotten", ({ tasks }) => tasks.size === 0);
  await untilEqual(api, worker);
});

Deno.test("a node that joins late gets the state, and serves", async () => {
  await using several = await SeveralNodes.start([{}, {}]);
  const [master, other] = several.members;
  const modelId = await several.addModel(other);
  await several.instanceOn(other, modelId);
  const late = await several.add();
  await untilEqual(master, other, late);
  assert.equal(late.node.state().nodes.size, 3);
  assert.equal(late.node.epoch()?.nodeId, master.node.nodeId);
  const { chunks } = await late.node.generate(modelId, ask("well met"), never);
  assert.equal(textOf(await collect(chunks)), "well met");
});

Deno.test("a node that starts again takes the place of what it was, at once", async () => {
  await using several = await SeveralNodes.start([{}, {}]);
  const [master, worker] = several.members;
  const modelId = await several.addModel(worker);
  const instanceId = await several.instanceOn(worker, modelId);
  const runnerId = runnerIdOf(instanceId, 0);
  const { nodeId } = worker.node;
  const incarnation = () => master.node.state().nodes.get(nodeId)?.incarnation ?? 0;
  const before = incarnation();
  assert.ok(before > 0);
  const runners: boolean[] = [];
  const stop = master.node.onChange(() => {
    if (incarnation() > before) runners.push(master.node.state().runners.has(runnerId));
  });
  const again = await several.restart(worker);
  stop();
  assert.equal(again.node.nodeId, nodeId);
  assert.equal(runners[0], false, "with the new incarnation the old one's runners are gone");
  await untilReady(master.node, instanceId);
  const { chunks } = await master.node.generate(modelId, ask("and again"), never);
  assert.equal(textOf(await collect(chunks)), "and again");
});

Deno.test("a client that leaves one node ends the work of another within a step", async () => {
  const stepMs = 200;
  await using several = await SeveralNodes.start([{}, {}, { endless: true, stepMs }]);
  const [master, api, worker] = several.members;
  const modelId = await several.addModel(worker);
  const instanceId = await several.instanceOn(worker, modelId);
  const runnerId = runnerIdOf(instanceId, 0);
  const client = new AbortController();
  const { chunks } = await api.node.generate(modelId, ask("for ever"), client.signal);
  let received = 0;
  for await (const chunk of chunks) {
    if (chunk.type === "Token" && ++received === 5) client.abort();
  }
  await until(worker.node, "the runner is at rest", ({ runners, tasks }) => {
    return tasks.size === 0 && runners.get(runnerId)?.status.type === "RunnerReady";
  });
  await eventually("its engine has told", () => {
    return worker.node.engineStats().get(runnerId)?.running === 0;
  });
  const generated = worker.node.engineStats().get(runnerId)?.generatedTokens ?? 0;
  // The step that is under way ends, and one more may begin while the word gets there.
  assert.ok(generated - received <= 2, `${generated} tokens, ${received} of them for the client`);
  await untilEqual(master, api, worker);
});

Deno.test("a worker that is cut off in mid-stream is an error within seconds", async () => {
  await using several = await SeveralNodes.start([{}, {}, ENDLESS]);
  const [master, api, worker] = several.members;
  const modelId = await several.addModel(worker);
  await several.instanceOn(worker, modelId);
  const { chunks } = await api.node.generate(modelId, ask("for ever"), never);
  const read: Chunk[] = [];
  let cutAt = 0;
  for await (const chunk of chunks) {
    read.push(chunk);
    if (chunk.type !== "Token" || chunk.tokenId !== 5) continue;
    several.network.partition([[worker.node.nodeId]]);
    cutAt = performance.now();
  }
  const tookMs = performance.now() - cutAt;
  const last = read.at(-1);
  assert.equal(last?.type === "Error" && last.error.code, "node_lost");
  assert.ok(tookMs < LINK_SILENCE_MS + 2_000, `${tookMs} ms`);
  const ids = tokenIds(read);
  assert.deepEqual(ids, counted(ids.length), "no token lost, none repeated");
  for (const { node } of [master, api]) {
    await until(node, "the task is forgotten", ({ tasks }) => tasks.size === 0);
  }
});

Deno.test("a runner that dies before its first token costs the client nothing", async () => {
  await using several = await SeveralNodes.start([{ exitIn: "prefill" }, {}, {}]);
  const [failing, working, api] = several.members;
  const modelId = await several.addModel(failing);
  await several.addModel(working);
  await several.instanceOn(failing, modelId); // The older one: it is asked first.
  await several.instanceOn(working, modelId);
  const { chunks } = await api.node.generate(modelId, ask("one two"), never);
  assert.equal(textOf(await collect(chunks)), "one two");
  await until(api.node, "the tasks are forgotten", ({ tasks }) => tasks.size === 0);
});

Deno.test("a node that dies before the first token costs the client nothing", async () => {
  await using several = await SeveralNodes.start([{}, {}, { hangIn: "prefill" }]);
  const [api, working, failing] = several.members;
  const modelId = await several.addModel(failing);
  await several.addModel(working);
  const older = await several.instanceOn(failing, modelId);
  await several.instanceOn(working, modelId);
  const asked = api.node.generate(modelId, ask("one two"), never);
  await until(api.node, "the runner is at work", ({ tasks }) => {
    return [...tasks.values()].some((task) => {
      return task.instanceId === older && task.taskStatus === "Running";
    });
  });
  several.network.partition([[failing.node.nodeId]]);
  assert.equal(textOf(await collect((await asked).chunks)), "one two");
});
