/** Generations between nodes of one process: who asks, who leads and who serves are three. */
import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import type { InstanceId, NodeId } from "../../core/ids.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import type { Transport } from "../../net/transport.ts";
import type { Node } from "../../node/node.ts";
import { TempDir } from "../support/temp_dir.ts";
import {
  addTinyModel,
  ask,
  createInstance,
  startTestNode,
  textOf,
  until,
  untilReady,
} from "../support/test_node.ts";

const never = new AbortController().signal;

/** Tokens that tell which is missing, or there twice. */
const TOKENS = Array.from({ length: 400 }, (_, at) => `${at} `);

/** A master, a node that serves a tiny model, and one that asks, each with its transport. */
class Trio {
  readonly #network = new MemoryNetwork();
  readonly transports = new Map<NodeId, Transport>();
  readonly #nodes: Node[] = [];

  private constructor(readonly dir: string) {}

  static async start(dir: string, script: Parameters<typeof startTestNode>[1]) {
    const trio = new Trio(dir);
    const master = await trio.#start("master", script);
    const worker = await trio.#start("worker", script);
    const api = await trio.#start("api", script);
    const { modelId } = await addTinyModel(worker, `${dir}/model`);
    const instanceId = await createInstance(worker, modelId);
    await until(api, "it knows of the instance", ({ instances }) => instances.has(instanceId));
    assert.equal(api.epoch()?.nodeId, master.nodeId);
    assert.equal(worker.runnerPids().size, 1);
    return { trio, master, worker, api, modelId };
  }

  /** As a process that is killed: nothing comes from it any more, and others notice. */
  async kill(node: Node): Promise<void> {
    await this.transports.get(node.nodeId)?.close();
  }

  async stop(): Promise<void> {
    for (const node of this.#nodes) await node.stop();
  }

  async #start(name: string, script: Parameters<typeof startTestNode>[1]): Promise<Node> {
    const node = await startTestNode(`${this.dir}/${name}`, script, {
      connect: ({ nodeId }) => {
        const transport = this.#network.join(nodeId);
        this.transports.set(nodeId, transport);
        return Promise.resolve(transport);
      },
    });
    this.#nodes.push(node);
    return node;
  }
}

Deno.test("no token is lost or told twice when the master dies in the middle", async () => {
  await using dir = await TempDir.make();
  const { trio, master, api, modelId } = await Trio.start(dir.path, { tokens: TOKENS, stepMs: 5 });
  const { chunks } = await api.generate(modelId, ask("count"), never);
  const said: Chunk[] = [];
  for await (const chunk of chunks) {
    if (said.push(chunk) === 20) await trio.kill(master);
  }
  assert.equal(textOf(said), TOKENS.join(""));
  assert.equal(said.at(-1)?.type, "Finish");
  await until(api, "another leads", () => (api.epoch()?.nodeId ?? master.nodeId) !== master.nodeId);
  await until(api, "the task is forgotten", ({ tasks }) => tasks.size === 0);
  await trio.stop();
});

Deno.test("a request just after the master's death waits for the next one, and is served", async () => {
  await using dir = await TempDir.make();
  const { trio, master, api, modelId } = await Trio.start(dir.path, { tokens: TOKENS });
  const dying = trio.kill(master);
  const { chunks } = await api.generate(modelId, ask("count"), never);
  await dying;
  assert.equal(textOf(await Array.fromAsync(chunks)), TOKENS.join(""));
  await trio.stop();
});

Deno.test("a client is told which node was lost while it answered, within seconds", async () => {
  await using dir = await TempDir.make();
  const { trio, worker, api, modelId } = await Trio.start(dir.path, { endless: true });
  const { chunks } = await api.generate(modelId, ask("for ever"), never);
  let killedAt = 0;
  let last: Chunk | undefined;
  for await (const chunk of chunks) {
    last = chunk;
    // Before it has said a word another one would be waited for.
    if (killedAt > 0 || chunk.type !== "Token") continue;
    killedAt = performance.now();
    await trio.kill(worker);
  }
  assert.ok(performance.now() - killedAt < 5_000, "the client was left waiting");
  assert.ok(last?.type === "Error");
  assert.equal(last.error.code, "node_lost");
  assert.match(last.error.message, /^Node "[^"]+" was lost while it served the request/);
  await trio.stop();
});

Deno.test("a worker drops what a lost node has asked for, at once", async () => {
  await using dir = await TempDir.make();
  const { trio, worker, api, modelId } = await Trio.start(dir.path, { endless: true });
  const { chunks } = await api.generate(modelId, ask("for ever"), never);
  await chunks[Symbol.asyncIterator]().next();
  await trio.kill(api);
  await until(worker, "the task has failed with its reason", ({ tasks }) => {
    const [task] = tasks.values();
    return task?.taskStatus === "Failed" && /cannot be reached/.test(task.errorMessage ?? "");
  });
  await until(worker, "its runner is idle", ({ runners }) => {
    const [runner] = runners.values();
    return runner?.status.type === "RunnerReady";
  });
  await trio.stop();
});

Deno.test("a node that stops is gone from the others' state before it has ended", async () => {
  await using dir = await TempDir.make();
  const { trio, master, worker, api } = await Trio.start(dir.path, {});
  await master.stop();
  for (const node of [worker, api]) {
    assert.deepEqual([...node.state().nodes.keys()].includes(master.nodeId), false);
  }
  await trio.stop();
});

Deno.test("two nodes that started apart become one cluster, and load nothing anew", async () => {
  await using dir = await TempDir.make();
  const network = new MemoryNetwork();
  const apart: NodeId[] = [];
  const start = (name: string) =>
    startTestNode(`${dir.path}/${name}`, {}, {
      connect: ({ nodeId }) => {
        apart.push(nodeId);
        network.partition(apart.map((id) => [id]));
        return Promise.resolve(network.join(nodeId));
      },
    });
  const nodes = [await start("one"), await start("two")];
  const instances: InstanceId[] = [];
  for (const [at, node] of nodes.entries()) {
    assert.equal(node.epoch()?.nodeId, node.nodeId, "it leads alone");
    const { modelId } = await addTinyModel(node, `${dir.path}/model-${at}`);
    instances.push(await createInstance(node, modelId));
  }
  const before = nodes.map((node) => [...node.runnerPids()]);
  network.heal();
  for (const node of nodes) {
    await until(node, "both nodes are there", ({ nodes }) => nodes.size === 2);
    for (const id of instances) await untilReady(node, id);
  }
  assert.deepEqual(nodes.map((node) => [...node.runnerPids()]), before);
  for (const node of nodes) await node.stop();
});
