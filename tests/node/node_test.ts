import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import { runnerIdOf, taskIdOf } from "../../core/ids.ts";
import { encodeState } from "../../core/state.ts";
import {
  addTinyModel,
  ask,
  collect,
  commandId,
  createInstance,
  emptied,
  REAL_ENGINE,
  startTestNode,
  textOf,
  until,
  untilReady,
} from "../support/test_node.ts";
import { goldenPath } from "../engines/golden.ts";
import { eventually } from "../support/eventually.ts";
import { TempDir } from "../support/temp_dir.ts";

const never = new AbortController().signal;

Deno.test("a node places a model, answers in a stream and forgets the task", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`);
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  await createInstance(node, modelId);
  const generation = await node.generate(modelId, ask("one two three"), never);
  assert.equal(generation.promptTokens, 3);
  const chunks = await collect(generation.chunks);
  assert.equal(textOf(chunks), "one two three");
  const last = chunks.at(-1);
  assert.equal(last?.type === "Finish" && last.finishReason, "stop");
  assert.equal(node.state().tasks.size, 0);
  await node.stop();
});

Deno.test("after deleting instance and model the state is that of an empty node", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`);
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const instanceId = await createInstance(node, modelId);
  await node.submit({ type: "DeleteInstance", commandId: commandId(node), instanceId });
  await eventually("the runner is gone", () => node.runnerPids().size === 0);
  await node.removeModel(modelId);
  assert.equal(encodeState(node.state()), encodeState(emptied(node.state())));
  await node.stop();
});

Deno.test("a node restarted on its data directory comes back with its instances", async () => {
  await using dir = await TempDir.make();
  const first = await startTestNode(`${dir.path}/data`);
  const { modelId } = await addTinyModel(first, `${dir.path}/model`);
  const instanceId = await createInstance(first, modelId);
  const { nodeId } = first;
  await first.stop();
  const second = await startTestNode(`${dir.path}/data`);
  assert.equal(second.nodeId, nodeId);
  assert.ok((second.epoch()?.clock ?? 0) > (first.epoch()?.clock ?? 0));
  await untilReady(second, instanceId);
  const { chunks } = await second.generate(modelId, ask("again"), never);
  assert.equal(textOf(await collect(chunks)), "again");
  await second.stop();
});

Deno.test("a runner killed in mid-stream is an error, and the instance returns", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { endless: true });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const instanceId = await createInstance(node, modelId);
  const { chunks } = await node.generate(modelId, ask("for ever"), never);
  let killedAt = 0;
  for await (const chunk of chunks) {
    if (chunk.type === "Token" && killedAt === 0) {
      killedAt = performance.now();
      for (const pid of node.runnerPids().values()) Deno.kill(pid, "SIGKILL");
    }
    if (chunk.type !== "Error") continue;
    assert.equal(chunk.error.code, "runner_failed");
    assert.match(chunk.error.message, /SIGKILL/);
  }
  await until(node, "the failure is known", (state) => state.instanceRetries.has(instanceId));
  await untilReady(node, instanceId);
  const again = await node.generate(modelId, ask("once more", { maxTokens: 2 }), never);
  assert.equal(textOf(await collect(again.chunks)), "once more");
  await node.stop();
});

Deno.test("a client that leaves cancels its task", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { endless: true });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const instanceId = await createInstance(node, modelId);
  const client = new AbortController();
  const { chunks } = await node.generate(modelId, ask("for ever"), client.signal);
  for await (const chunk of chunks) if (chunk.type === "Token") break;
  client.abort();
  await until(node, "the task is gone and the runner idle", (state) => {
    const status = state.runners.get(`${instanceId}:0` as never)?.status.type;
    return state.tasks.size === 0 && status === "RunnerReady";
  });
  await node.stop();
});

Deno.test("a prompt over the context is refused before anything is streamed", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { contextTokens: 2 });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  await createInstance(node, modelId);
  await assert.rejects(
    node.generate(modelId, ask("one two three"), never),
    (error) => error instanceof AppError && error.code === "context_length_exceeded",
  );
  assert.equal(node.state().tasks.size, 0);
  await node.stop();
});

Deno.test("tokens and prompts never reach the log: after ten chats it holds statuses", async () => {
  await using dir = await TempDir.make();
  const secret = "xyzzy-prompt";
  const node = await startTestNode(`${dir.path}/data`, { tokens: ["plugh-token", " more"] });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  await createInstance(node, modelId);
  for (let i = 0; i < 10; i++) {
    const { chunks } = await node.generate(modelId, ask(`${secret} ${i}`), never);
    assert.match(textOf(await collect(chunks)), /plugh-token/);
  }
  await node.stop();
  for await (const { name } of Deno.readDir(`${dir.path}/data`)) {
    if (!name.startsWith("log.sqlite")) continue;
    const bytes = new TextDecoder("latin1").decode(await Deno.readFile(`${dir.path}/data/${name}`));
    assert.ok(!bytes.includes(secret), `${name} holds a prompt`);
    assert.ok(!bytes.includes("plugh"), `${name} holds a token`);
    if (name === "log.sqlite") assert.ok(bytes.includes("TaskStatusUpdated"), "statuses are there");
  }
});

Deno.test("a second node on the same data directory is refused", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`);
  await assert.rejects(
    startTestNode(`${dir.path}/data`),
    (error) => error instanceof AppError && error.code === "conflict",
  );
  await node.stop();
});

Deno.test("a node knows how its engines are doing, and forgets it with their processes", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`);
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const instanceId = await createInstance(node, modelId);
  const stats = () => node.engineStats().get(runnerIdOf(instanceId, 0));
  assert.equal(stats()?.requests, 0, "told before it was ready");
  const { chunks } = await node.generate(modelId, ask("one two three"), never);
  await collect(chunks);
  await until(node, "the runner is at rest", ({ runners }) => {
    return runners.get(runnerIdOf(instanceId, 0))?.status.type === "RunnerReady";
  });
  const { requests, promptTokens, generatedTokens, running } = stats() ?? {};
  assert.deepEqual([requests, promptTokens, generatedTokens, running], [1, 3, 3, 0]);
  const written = JSON.stringify([...node.state().runners]);
  assert.ok(!written.includes("generatedTokens"), "a latest value is never in the log");
  await node.submit({ type: "DeleteInstance", commandId: commandId(node), instanceId });
  await eventually("the runner is gone", () => node.runnerPids().size === 0);
  assert.equal(node.engineStats().size, 0);
  await node.stop();
});

Deno.test("a task of the real engine leaves a trace where tracing is on", async () => {
  await using dir = await TempDir.make();
  const { runner } = REAL_ENGINE;
  assert.ok(runner);
  const env = { ...runner.env, EXO_TRACING_ENABLED: "true" };
  const node = await startTestNode(`${dir.path}/data`, {}, { runner: { ...runner, env } });
  const { modelId } = await node.addModel(goldenPath("models/tiny-tied"));
  await createInstance(node, modelId);
  const startedAtUs = Date.now() * 1000;
  const answer = await node.generate(modelId, ask("a secret", { maxTokens: 3 }), never);
  await collect(answer.chunks);
  await node.stop(); // Which waits until it is written.
  const taskId = taskIdOf(answer.commandId);
  const spans = await node.traces.read(taskId) ?? [];
  assert.deepEqual(
    spans.map(({ category }) => category),
    ["queue", "prefill", "prefill/chunk", "decode"],
  );
  const [first] = spans;
  assert.ok(Math.abs((first?.startUs ?? 0) - startedAtUs) < 3_600e6, "microseconds since 1970");
  assert.deepEqual((await node.traces.list()).map((one) => one.taskId), [taskId]);
  const file = await Deno.readTextFile(`${dir.path}/data/traces/trace_${taskId}.json`);
  assert.ok(!file.includes("secret"));
});
