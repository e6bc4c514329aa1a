/** Instances of several ranks: real nodes of one process, fake engines that form a real ring. */
import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import type { ErrorInfo } from "../../core/errors.ts";
import type { InstanceId } from "../../core/ids.ts";
import type { Instance } from "../../core/instance.ts";
import { PlacementRequest } from "../../core/placement_request.ts";
import { SUSPECT_STEP_MS_MAX } from "../../core/step_watch.ts";
import { type Member, SeveralNodes, tokenIds } from "../support/several_nodes.ts";
import {
  ask,
  collect,
  commandId,
  createInstance,
  textOf,
  until,
  untilReady,
} from "../support/test_node.ts";

const never = new AbortController().signal;

/** An engine that counts for ever, and not so fast that a test could miss something. */
const ENDLESS = { endless: true, stepMs: 20 };

/** How soon a client must hear of a rank that will not speak again. */
const HEARD_MS = 10_000;

type Script = Parameters<typeof SeveralNodes.start>[0][number];

/** An instance over two nodes, by rank, asked for at the first of them. */
async function pair(several: SeveralNodes) {
  const modelId = await several.addModelToAll();
  const [{ node }] = several.members;
  const instanceId = await createInstance(node, modelId, { minNodes: 2 });
  const [first, second] = several.ranksOf(instanceOf(several, instanceId));
  assert.ok(first && second);
  return { modelId, instanceId, first, second };
}

function instanceOf(several: SeveralNodes, instanceId: InstanceId): Instance {
  return several.instance(several.members[0], instanceId);
}

function pidOf({ node }: Member): number {
  const [pid, ...more] = node.runnerPids().values();
  assert.ok(pid !== undefined && more.length === 0);
  return pid;
}

/** The error that an answer ends with, and how long after `strike`, its third token. */
async function brokenAt(
  chunks: AsyncIterable<Chunk>,
  strike: () => void,
): Promise<{ error: ErrorInfo; tookMs: number }> {
  let struckAt = 0;
  for await (const chunk of chunks) {
    if (chunk.type === "Error") {
      return { error: chunk.error, tookMs: performance.now() - struckAt };
    }
    if (chunk.type !== "Token" || chunk.tokenId !== 2) continue;
    struckAt = performance.now();
    strike();
  }
  throw new Error("The answer ended without an error");
}

Deno.test("ranks of two nodes serve one answer, whose prompt reaches the first alone", async () => {
  await using several = await SeveralNodes.start([{}, {}]);
  const { modelId, first, second } = await pair(several);
  for (const { node } of [first, second]) {
    const { chunks } = await node.generate(modelId, ask("one two three"), never);
    assert.equal(textOf(await collect(chunks)), "one two three");
  }
  const [runnerId] = second.node.runnerPids().keys();
  await until(first.node, "the tasks are forgotten", ({ tasks }) => tasks.size === 0);
  assert.ok(runnerId);
  assert.equal(second.node.engineStats().get(runnerId)?.requests ?? 0, 0);
});

for (const rank of [0, 1]) {
  Deno.test(`rank ${rank} that is stopped in mid-stream is an error within 10 s`, async () => {
    await using several = await SeveralNodes.start([ENDLESS, ENDLESS]);
    const { modelId, instanceId, first, second } = await pair(several);
    const victim = [first, second][rank] ?? first;
    const { chunks } = await first.node.generate(modelId, ask("for ever"), never);
    const { error, tookMs } = await brokenAt(chunks, () => Deno.kill(pidOf(victim), "SIGSTOP"));
    assert.ok(tookMs < HEARD_MS, `${tookMs} ms`);
    assert.match(error.message, /is stopped|closed the connection|has been silent/);
    assert.ok(["group_broken", "runner_failed"].includes(error.code), error.code);
    // Some program may have had a port of the first attempt: that is not what is waited for.
    await until(first.node, "the instance is retried for it", ({ instanceRetries }) => {
      return /it is stopped \(SIGSTOP\)/.test(instanceRetries.get(instanceId)?.lastError ?? "");
    });
  });
}

Deno.test("a rank that hangs in mid-stream is an error within 10 s, and says where", async () => {
  const script: Script = { ...ENDLESS, hangIn: "decode", rank: 1 };
  await using several = await SeveralNodes.start([script, script]);
  const { modelId, first } = await pair(several);
  const startedAt = performance.now();
  const { chunks } = await first.node.generate(modelId, ask("for ever"), never);
  const last = (await collect(chunks)).at(-1);
  assert.ok(performance.now() - startedAt < HEARD_MS);
  assert.ok(last?.type === "Error" && last.error.code === "group_broken", JSON.stringify(last));
});

Deno.test("a port that a stranger has is told, and the retry takes another", async () => {
  await using several = await SeveralNodes.start([{}, {}]);
  const [asked] = several.members;
  const { node } = asked;
  const modelId = await several.addModelToAll();
  using taken = new DisposableStack();
  const hostsOf = (instance: Instance | undefined) =>
    instance?.type === "MlxRingInstance" ? Object.values(instance.hostsByNode)[0] ?? [] : [];
  let ports: number[] = [];
  const stop = node.onChange(() => {
    const [instance] = node.state().instances.values();
    if (!instance || ports.length > 0) return;
    ports = hostsOf(instance).map(({ port }) => port);
    for (const port of ports) taken.use(Deno.listen({ hostname: "127.0.0.1", port }));
  });
  const instanceId = several.members[0].node.newId() as InstanceId;
  const request = PlacementRequest.parse({ modelId, minNodes: 2 });
  const id = commandId(node);
  await node.submit({ type: "PlaceInstance", commandId: id, instanceId, request });
  await until(node, "it is retried", ({ instanceRetries }) => instanceRetries.has(instanceId));
  stop();
  const { lastError = "" } = node.state().instanceRetries.get(instanceId) ?? {};
  assert.match(lastError, /Cannot listen at 127\.0\.0\.1:\d+: address in use/);
  await untilReady(node, instanceId);
  const now = hostsOf(instanceOf(several, instanceId)).map(({ port }) => port);
  assert.equal(now.length, 2);
  assert.ok(now.every((port) => !ports.includes(port)), `${now} after ${ports}`);
});

Deno.test("an address that its machine has lost is told, and the retry takes the new one", async () => {
  await using several = await SeveralNodes.start([{}, {}]);
  const { modelId, instanceId, first } = await pair(several);
  const { node } = first;
  const placed = instanceOf(several, instanceId);
  await node.submit({ type: "DeleteInstance", commandId: commandId(node), instanceId });
  await until(node, "it is gone", ({ instances }) => !instances.has(instanceId));
  // As if it had been placed before the lease of another address (TEST-NET-1, RFC 5737) was over.
  const lost = Object.entries(placed.hostsByNode)
    .map(([id, hosts]) => [id, hosts.map(({ port }) => ({ ip: "192.0.2.1", port }))]);
  const instance = { ...placed, hostsByNode: Object.fromEntries(lost) } as Instance;
  await node.submit({ type: "CreateInstance", commandId: commandId(node), instance });
  await until(node, "it is retried", ({ instanceRetries }) => instanceRetries.has(instanceId));
  const { lastError = "" } = node.state().instanceRetries.get(instanceId) ?? {};
  assert.match(lastError, /Cannot listen at 192\.0\.2\.1:\d+/);
  await untilReady(node, instanceId);
  const hosts = Object.values(instanceOf(several, instanceId).hostsByNode).flat();
  assert.deepEqual([...new Set(hosts.map(({ ip }) => ip))], ["127.0.0.1"]);
  const { chunks } = await node.generate(modelId, ask("one two three"), never);
  assert.equal(textOf(await collect(chunks)), "one two three");
});

Deno.test("a blip of the network between nodes ends no group that still steps", async () => {
  await using several = await SeveralNodes.start([ENDLESS, ENDLESS]);
  const { modelId, instanceId, first, second } = await pair(several);
  const before = [pidOf(first), pidOf(second)];
  const retries = () => first.node.state().instanceRetries.get(instanceId)?.attempts ?? 0;
  const retriesBefore = retries();
  const client = new AbortController();
  const { chunks } = await first.node.generate(modelId, ask("for ever"), client.signal);
  const read: Chunk[] = [];
  let cutAt = 0;
  for await (const chunk of chunks) {
    read.push(chunk);
    if (chunk.type === "Error") break;
    if (chunk.type !== "Token") continue;
    if (chunk.tokenId === 5) {
      several.network.partition([[second.node.nodeId]]);
      cutAt = performance.now();
    }
    // Longer than a suspect may go without a step.
    if (cutAt > 0 && performance.now() - cutAt > SUSPECT_STEP_MS_MAX + 1_000) client.abort();
  }
  assert.ok(!read.some(({ type }) => type === "Error"), JSON.stringify(read.at(-1)));
  const ids = tokenIds(read);
  assert.deepEqual(ids, ids.map((_, n) => n), "no token lost, none repeated");
  several.network.heal();
  await several.master([first, second]);
  await untilReady(first.node, instanceId);
  assert.deepEqual([pidOf(first), pidOf(second)], before);
  assert.equal(retries(), retriesBefore);
  const answer = await second.node.generate(modelId, ask("more", { maxTokens: 3 }), never);
  assert.equal(tokenIds(await collect(answer.chunks)).length, 3);
});
