import assert from "node:assert/strict";
import { ApiClient } from "../../api/client.ts";
import type { ChatEvent } from "../../api/client_chat.ts";
import { AppError } from "../../core/errors.ts";
import { eventually, isAlive } from "../support/eventually.ts";
import { exo, ServeProcess } from "../support/exo_process.ts";
import { TempDir } from "../support/temp_dir.ts";

const TINY = new URL("../golden/models/tiny-tied", import.meta.url).pathname;
const SMOLLM2 = Deno.env.get("EXO_TEST_SMOLLM2_GGUF") ?? "";
const needsModel = { ignore: SMOLLM2 === "" };

/** A node with one ready instance of a model. */
async function withInstance(serve: ServeProcess, path: string) {
  const client = new ApiClient({ url: serve.url, apiKey: undefined });
  const { id: model } = await client.addModel(path);
  const { instanceId } = await client.placeInstance({ model });
  await ready(client, instanceId);
  return { client, model, instanceId };
}

async function ready(client: ApiClient, instanceId: string): Promise<void> {
  for await (const _ of client.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
}

function question(model: string, maxTokens: number) {
  const messages = [{ role: "user" as const, content: "What is the capital of France?" }];
  return { model, messages, temperature: 0, maxTokens };
}

async function textOf(events: AsyncIterable<ChatEvent>): Promise<string> {
  let text = "";
  for await (const event of events) if (event.type === "text") text += event.text;
  return text;
}

Deno.test("the command line tells the whole story of a model", async () => {
  await using dir = await TempDir.make();
  await using serve = await ServeProcess.start(dir.path);
  const at = ["--url", serve.url, "--json"];
  const json = async (...args: string[]) => {
    const { code, stdout, stderr } = await exo(...args, ...at);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  const { modelId } = await json("models", "add", TINY);
  assert.match(modelId, /^local\/tiny-tied-[0-9a-f]{8}$/);
  const { instanceId } = await json("instance", "create", modelId, "--wait");
  const answer = await json("run", "local/tiny-tied", "hello", "--max-tokens", "4", "--seed", "7");
  assert.equal(answer.modelId, modelId);
  assert.ok(answer.usage.completionTokens <= 4 || answer.usage.completion_tokens <= 4);
  const again = await json("run", modelId, "hello", "--max-tokens", "4", "--seed", "7");
  assert.equal(again.text, answer.text, "the same seed gives the same text");
  const listed = await json("instance", "list");
  assert.deepEqual(listed.map((one: { instanceId: string }) => one.instanceId), [instanceId]);
  await json("instance", "delete", instanceId);
  assert.deepEqual(await json("instance", "list"), []);
  await json("models", "remove", modelId);
  assert.deepEqual(await json("models", "list"), []);
  assert.equal((await exo("instance", "show", instanceId, ...at)).code, 4);
});

Deno.test("without a node a command says so with exit code 3", async () => {
  const { code, stderr } = await exo("status", "--url", "http://127.0.0.1:9");
  assert.equal(code, 3);
  assert.match(stderr, /exo serve/);
});

Deno.test({
  name: "SmolLM2: a runner killed in mid-stream is an error within 2 s, then all is well again",
  ...needsModel,
  async fn() {
    await using dir = await TempDir.make();
    await using serve = await ServeProcess.start(dir.path);
    const { client, model, instanceId } = await withInstance(serve, SMOLLM2);
    let killedAt = 0;
    await assert.rejects(
      async () => {
        for await (const event of client.chat(question(model, 200))) {
          if (event.type !== "text" || killedAt !== 0) continue;
          killedAt = performance.now();
          for (const pid of await serve.runnerPids()) Deno.kill(pid, "SIGKILL");
        }
      },
      (error) => error instanceof AppError && error.code === "runner_failed",
    );
    assert.ok(performance.now() - killedAt < 2_000, "the error comes within 2 s");
    await ready(client, instanceId);
    assert.match(await textOf(client.chat(question(model, 12))), /Paris/);
  },
});

Deno.test({
  name: "SmolLM2: a node killed in mid-stream leaves no runner after 2 s",
  ...needsModel,
  async fn() {
    await using dir = await TempDir.make();
    await using serve = await ServeProcess.start(dir.path);
    const { client, model } = await withInstance(serve, SMOLLM2);
    const events = client.chat(question(model, 200));
    await events.next();
    const pids = await serve.runnerPids();
    assert.equal(pids.length, 1);
    serve.kill("SIGKILL");
    await assert.rejects(async () => await textOf(events));
    const gone = async () => !(await Promise.all(pids.map(isAlive))).includes(true);
    await eventually("no runner is left", gone, 2_000);
  },
});

Deno.test({
  name: "SmolLM2: a client that hangs up frees the runner within a step",
  ...needsModel,
  async fn() {
    await using dir = await TempDir.make();
    await using serve = await ServeProcess.start(dir.path);
    const { client, model } = await withInstance(serve, SMOLLM2);
    for await (const event of client.chat(question(model, 2_000))) {
      if (event.type === "text") break;
    }
    const idle = async () => Object.keys((await client.state()).tasks).length === 0;
    await eventually("the task is gone", idle, 2_000);
    assert.match(await textOf(client.chat(question(model, 12))), /Paris/);
  },
});

Deno.test("SIGTERM ends a node and its runners within 2 s", async () => {
  await using dir = await TempDir.make();
  await using serve = await ServeProcess.start(dir.path);
  await withInstance(serve, TINY);
  const pids = await serve.runnerPids();
  const startedAt = performance.now();
  serve.kill("SIGTERM");
  assert.equal(await serve.ended(), 0);
  assert.ok(performance.now() - startedAt < 2_000);
  assert.deepEqual(await Promise.all(pids.map(isAlive)), [false]);
});

Deno.test("a node restarted on its data directory serves the same instance again", async () => {
  await using dir = await TempDir.make();
  const first = await ServeProcess.start(dir.path);
  const { model, instanceId } = await withInstance(first, TINY);
  first.kill("SIGKILL");
  await first.ended();
  await using second = await ServeProcess.start(dir.path);
  assert.equal(second.nodeId, first.nodeId);
  const client = new ApiClient({ url: second.url, apiKey: undefined });
  await ready(client, instanceId);
  await textOf(client.chat(question(model, 2)));
});
