import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import { runnerIdOf } from "../../core/ids.ts";
import { EMPTY_STATE } from "../../core/state.ts";
import { PlacementRequest } from "../../core/placement_request.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { EventLog } from "../../node/event_log.ts";
import { ModelStore } from "../../node/model_store.ts";
import { Node } from "../../node/node.ts";
import { Replica } from "../../node/replica.ts";
import { Reporter } from "../../node/reporter.ts";
import { Worker } from "../../node/worker.ts";
import { eventually, isAlive } from "../support/eventually.ts";
import { TempDir } from "../support/temp_dir.ts";
import {
  addTinyModel,
  ask,
  collect,
  commandId,
  createInstance,
  startTestNode,
  textOf,
  until,
} from "../support/test_node.ts";
import {
  A,
  created,
  downloaded,
  fold,
  instanceId,
  instanceOf,
  MODEL,
  nodeStarted,
} from "../support/fixtures.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;
const FAKE_ENV = { ...Deno.env.toObject(), EXO_ENGINE: "fake" };

const never = new AbortController().signal;

/** Asks for an instance without waiting for it. */
async function place(node: Node, modelId: Parameters<typeof createInstance>[1], id = "i") {
  await node.submit({
    type: "PlaceInstance",
    commandId: commandId(node),
    instanceId: instanceId(id),
    request: PlacementRequest.parse({ modelId }),
  });
  return instanceId(id);
}

Deno.test("deleting an instance while it generates is an error chunk at once", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { endless: true });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const instanceId = await createInstance(node, modelId);
  const { chunks } = await node.generate(modelId, ask("for ever"), never);
  let deletedAt = 0;
  for await (const chunk of chunks) {
    if (chunk.type === "Token" && deletedAt === 0) {
      deletedAt = performance.now();
      await node.submit({ type: "DeleteInstance", commandId: commandId(node), instanceId });
    }
    if (chunk.type !== "Error") continue;
    assert.equal(chunk.error.code, "instance_removed");
    assert.equal(chunk.error.message, "The instance was removed while generating");
  }
  // Far below any timeout of a request.
  assert.ok(performance.now() - deletedAt < 5_000, "the client was left waiting");
  await until(node, "the task is forgotten", (state) => state.tasks.size === 0);
  await eventually("the runner is gone", () => node.runnerPids().size === 0);
  assert.equal(node.state().runners.size, 0);
  await node.stop();
});

Deno.test("a crash loop backs off by InstanceRetrying, until it is deleted", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { exitIn: "load" });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const id = await place(node, modelId);
  const retry = () => node.state().instanceRetries.get(id);
  await until(node, "the first failure is known", () => retry()?.attempts === 1);
  const first = retry();
  assert.match(first?.lastError ?? "", /^test: Runner terminated \(exit 1\)/);
  assert.ok((first?.notBefore ?? 0) <= node.now() + 2_000);
  await until(node, "the second failure is known", () => retry()?.attempts === 2);
  const waited = (retry()?.notBefore ?? 0) - 4_000 - (first?.notBefore ?? 0);
  assert.ok(waited >= 0, `the second attempt failed ${-waited} ms before its date`);
  await eventually("the process is gone", () => node.runnerPids().size === 0);
  await node.submit({ type: "DeleteInstance", commandId: commandId(node), instanceId: id });
  const { instances, instanceRetries, runners, tasks } = node.state();
  const found = { instances, instanceRetries, runners, tasks };
  const { instances: i, instanceRetries: r, runners: u, tasks: t } = EMPTY_STATE;
  assert.deepEqual(found, { instances: i, instanceRetries: r, runners: u, tasks: t });
  await node.stop();
});

Deno.test("an error of loading is the reason that people read", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { failIn: "load" });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const id = await place(node, modelId);
  await until(node, "the failure is known", (state) => state.instanceRetries.has(id));
  const reason = node.state().instanceRetries.get(id)?.lastError;
  assert.match(reason ?? "", /\(exit 1\): The fake engine was told to fail in load$/);
  await node.stop();
});

Deno.test("a runner that cannot even be started backs off like any other", async () => {
  await using dir = await TempDir.make();
  await Deno.writeTextFile(`${dir.path}/device.json`, '{"backends":["MlxCpu"]}');
  const node = await Node.start({
    dataDir: `${dir.path}/data`,
    version: "0",
    deviceFile: `${dir.path}/device.json`,
    launch: { command: "/no/such/program", args: [], env: {} },
  });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const id = await place(node, modelId);
  await until(node, "the failure is known", (state) => state.instanceRetries.has(id));
  const reason = node.state().instanceRetries.get(id)?.lastError;
  assert.match(reason ?? "", /cannot be started.*ENOENT/);
  await node.stop();
});

Deno.test("an error of one generation leaves the instance Ready for the next", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { failIn: "request" });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const id = await createInstance(node, modelId);
  for (let again = 0; again < 2; again++) {
    const { chunks } = await node.generate(modelId, ask("please"), never);
    const last = (await collect(chunks)).at(-1);
    assert.ok(last?.type === "Error");
    assert.equal(last.error.code, "invalid_request");
  }
  const runner = runnerIdOf(id, 0);
  await until(
    node,
    "the runner is idle",
    ({ runners, tasks }) => tasks.size === 0 && runners.get(runner)?.status.type === "RunnerReady",
  );
  assert.equal(node.state().instanceRetries.size, 0);
  await node.stop();
});

Deno.test("a crash in mid-answer is one error chunk, after what was said", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { exitIn: "decode" });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  await createInstance(node, modelId);
  const { chunks } = await node.generate(modelId, ask("one two three"), never);
  const all = await collect(chunks);
  assert.equal(textOf(all), "one ");
  const errors = all.filter((chunk) => chunk.type === "Error");
  assert.equal(errors.length, 1);
  const [error] = errors;
  assert.ok(error?.type === "Error" && all.at(-1) === error);
  assert.equal(error.error.code, "runner_failed");
  assert.match(error.error.message, /Runner shutdown before completing command: .*exit 1/);
  await node.stop();
});

Deno.test("many clients at once get each their own answer", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`);
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  await createInstance(node, modelId);
  const texts = Array.from({ length: 8 }, (_, n) => `client ${n} says so`);
  const answers = await Promise.all(texts.map(async (text) => {
    const { chunks } = await node.generate(modelId, ask(text), never);
    return textOf(await collect(chunks));
  }));
  assert.deepEqual(answers, texts);
  await until(node, "every task is forgotten", (state) => state.tasks.size === 0);
  await node.stop();
});

Deno.test("stopping the node ends its runners and its clients' answers", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { endless: true });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  await createInstance(node, modelId);
  const pids = [...node.runnerPids().values()];
  const { chunks } = await node.generate(modelId, ask("for ever"), never);
  const reader = chunks[Symbol.asyncIterator]();
  await reader.next();
  await Promise.all([node.stop(), node.stop()]);
  let last = await reader.next();
  for (let next = last; !next.done; next = await reader.next()) last = next;
  assert.ok(!last.done && last.value.type === "Error");
  assert.equal(pids.length, 1);
  for (const pid of pids) assert.equal(await isAlive(pid), false);
  assert.equal(node.readiness().ready, false);
});

Deno.test("an action that cannot be started, as on a full disk, is tried again", async () => {
  const network = new MemoryNetwork();
  await using dir = await TempDir.make();
  const log = EventLog.open(dir.path);
  const transport = network.join(A);
  const replica = new Replica(fold([nodeStarted(A), created(instanceOf("i", [A]))]));
  const reporter = new Reporter(A, replica, () => {});
  const secondTry = Promise.withResolvers<void>();
  let tries = 0;
  const worker = new Worker({
    nodeId: A,
    replica,
    transport,
    reporter,
    models: new ModelStore(log),
    clock: SYSTEM_CLOCK,
    launch: { command: "/no/such/program", args: [], env: {} },
    nextIncarnation: () => {
      if (++tries === 1) throw new AppError("internal", "Cannot write the event log: disk full");
      secondTry.resolve();
      return tries;
    },
    traces: { save: () => {} },
  });
  worker.start();
  await secondTry.promise;
  await worker.stop();
  reporter.stop();
  log.close();
});

Deno.test("a model whose files are gone fails its runner, which says so", async () => {
  await using dir = await TempDir.make();
  const log = EventLog.open(dir.path);
  const replica = new Replica(fold([nodeStarted(A), downloaded(A), created(instanceOf("i", [A]))]));
  const reason = Promise.withResolvers<string>();
  const reporter = new Reporter(A, replica, ({ reports }) => {
    for (const event of reports.values()) {
      const status = event.type === "RunnerStatusUpdated" ? event.status : undefined;
      if (status?.type === "RunnerFailed") reason.resolve(status.reason);
    }
  });
  const worker = new Worker({
    nodeId: A,
    replica,
    transport: new MemoryNetwork().join(A),
    reporter,
    models: new ModelStore(log),
    clock: SYSTEM_CLOCK,
    launch: { command: Deno.execPath(), args: ["run", "-A", MAIN, "runner"], env: FAKE_ENV },
    nextIncarnation: () => 1,
    traces: { save: () => {} },
  });
  worker.start();
  assert.equal(await reason.promise, `the files of ${MODEL} are not on this node`);
  await worker.stop();
  reporter.stop();
  log.close();
});

Deno.test("a load that hangs is ended at its limit, and the process is gone with its memory", async () => {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, { hangIn: "load" }, { loadTimeoutMs: 200 });
  const { modelId } = await addTinyModel(node, `${dir.path}/model`);
  const id = await place(node, modelId);
  let pids: number[] = [];
  await until(node, "it loads", (state) => {
    pids = [...node.runnerPids().values()];
    return state.runners.get(runnerIdOf(id, 0))?.status.type === "RunnerLoading";
  });
  await until(node, "it is retried", (state) => state.instanceRetries.has(id));
  assert.match(
    node.state().instanceRetries.get(id)?.lastError ?? "",
    /SIGKILL\): Model loading took longer than 0.2 s/,
  );
  assert.deepEqual(await Promise.all(pids.map(isAlive)), [false]);
  await node.stop();
});

/** How soon a client must hear of a runner that will not speak again. */
const HEARD_MS = 10_000;

for (const fault of ["is stopped", "hangs"] as const) {
  Deno.test(`a runner that ${fault} while it answers is an error within 10 s`, async () => {
    await using dir = await TempDir.make();
    const script = fault === "hangs" ? { hangIn: "decode" as const } : { endless: true };
    const node = await startTestNode(`${dir.path}/data`, script);
    const { modelId } = await addTinyModel(node, `${dir.path}/model`);
    await createInstance(node, modelId);
    const { chunks } = await node.generate(modelId, ask("one two three"), never);
    let faultAt = 0;
    let error = "";
    for await (const chunk of chunks) {
      if (chunk.type === "Error") error = chunk.error.message;
      if (chunk.type !== "Token" || faultAt !== 0) continue;
      faultAt = performance.now();
      const pids = fault === "is stopped" ? node.runnerPids().values() : [];
      for (const pid of pids) Deno.kill(pid, "SIGSTOP");
    }
    assert.match(error, fault === "hangs" ? /has work and did nothing/ : /is stopped/);
    assert.ok(performance.now() - faultAt < HEARD_MS);
    await node.stop();
  });
}
