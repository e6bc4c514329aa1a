import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import OpenAI from "openai";
import type { z } from "zod";
import { ApiClient } from "../../api/client.ts";
import { type ApiOptions, serveApi } from "../../api/server.ts";
import type { TaskId } from "../../core/ids.ts";
import { isInFlight } from "../../core/task.ts";
import { MIB } from "../../core/units.ts";
import type { FakeScript } from "../../engines/fake.ts";
import type { Node } from "../../node/node.ts";
import { eventually } from "../support/eventually.ts";
import { ServeProcess } from "../support/exo_process.ts";
import { TempDir } from "../support/temp_dir.ts";
import { addTinyModel, createInstance, startTestNode, until } from "../support/test_node.ts";

const TINY_CHECKPOINT = new URL("../golden/models/tiny-tied", import.meta.url).pathname;

/** A node of this process with its API, and the official client. */
interface World {
  readonly node: Node;
  readonly url: string;
  readonly client: OpenAI;
  readonly model: string;
}

async function withWorld(
  script: z.input<typeof FakeScript>,
  body: (world: World) => Promise<void>,
  options: ApiOptions = {},
): Promise<void> {
  await using dir = await TempDir.make();
  const node = await startTestNode(`${dir.path}/data`, script);
  const stop = new AbortController();
  const listen = { hostname: "127.0.0.1", port: 0, signal: stop.signal };
  const server = await serveApi(node, { ...options, ...listen });
  try {
    const { modelId: model } = await addTinyModel(node, `${dir.path}/model`);
    await createInstance(node, model);
    const { url } = server;
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
    await body({ node, url, client, model });
  } finally {
    await node.stop();
    stop.abort();
    await server.finished;
  }
}

/** A streamed question; resolves once its runner has accepted it. */
function ask({ client, model }: World, maxTokens?: number) {
  return client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "one two three" }],
    stream: true,
    ...(maxTokens === undefined ? {} : { max_completion_tokens: maxTokens }),
  });
}

/** The text of a stream; `onText` hears each piece. */
async function read(
  stream: Awaited<ReturnType<typeof ask>>,
  onText: () => void = () => {},
): Promise<string> {
  let text = "";
  for await (const { choices } of stream) {
    const piece = choices[0]?.delta.content ?? "";
    text += piece;
    if (piece !== "") onText();
  }
  return text;
}

/** These tasks as they end; pieces of streams may overtake each other on their way. */
function endsOf(node: Node, tasks: readonly TaskId[]): ReadonlySet<TaskId> {
  const ended = new Set<TaskId>();
  node.onChange(() => {
    for (const id of tasks) {
      const task = node.state().tasks.get(id);
      if (!task || !isInFlight(task)) ended.add(id);
    }
  });
  return ended;
}

Deno.test("four openai clients at once are served as they came; one that aborts makes way", async () => {
  await withWorld({ endless: true, stepMs: 1 }, async (world) => {
    const first = await ask(world);
    const seen = Promise.withResolvers<void>();
    const isAborted = read(first, seen.resolve);
    await seen.promise;
    let isSilent = true;
    const others: Promise<string>[] = [];
    for (let asked = 0; asked < 3; asked++) {
      // Accepted one after the other, all behind the first, which would never end.
      const stream = await ask(world, 5);
      others.push(read(stream, () => isSilent = false));
    }
    equal(isSilent, true);
    const [, ...queued] = world.node.state().tasks.keys();
    equal(queued.length, 3);
    const ended = endsOf(world.node, queued);
    first.controller.abort();
    await isAborted;
    deepEqual(await Promise.all(others), others.map(() => "one two threeone two "));
    deepEqual([...ended], queued);
    await until(world.node, "no task is left", ({ tasks }) => tasks.size === 0);
  });
});

Deno.test("an openai client that finds the queue full is told so, and served later", async () => {
  await withWorld({ endless: true, stepMs: 1, queueMax: 2 }, async (world) => {
    const running = await ask(world);
    const queued = await ask(world, 1);
    await rejects(ask(world), OpenAI.RateLimitError);
    running.controller.abort();
    equal(await read(queued), "one ");
    equal(await read(await ask(world, 1)), "one ");
  });
});

/** The official client against a real engine with a tiny model. */
async function withRealEngine(body: (client: OpenAI, model: string) => Promise<void>) {
  await using dir = await TempDir.make();
  await using serve = await ServeProcess.start(dir.path);
  const node = new ApiClient({ url: serve.url, apiKey: undefined });
  const { id: model } = await node.addModel(TINY_CHECKPOINT);
  const { instanceId } = await node.placeInstance({ model });
  for await (const _ of node.awaitInstance({ instanceId }, { timeoutSeconds: 60 }));
  const client = new OpenAI({ baseURL: `${serve.url}/v1`, apiKey: "none", maxRetries: 0 });
  await body(client, model);
}

Deno.test("several answers of a real engine are those of the next seeds, with all their tokens", async () => {
  await withRealEngine(async (client, model) => {
    const ask = (fields: object) =>
      client.chat.completions.create({
        ...{ model, messages: [{ role: "user", content: "hello" }], temperature: 1 },
        // Not of the SDK's types: a field that exo shares with llama.cpp and vLLM.
        ...{ max_completion_tokens: 12, logprobs: true, top_logprobs: 2, ignore_eos: true },
        ...fields,
      }) as Promise<OpenAI.ChatCompletion>;
    const alone = [];
    for (const seed of [5, 6, 7]) alone.push((await ask({ seed })).choices[0]);
    const { choices, usage } = await ask({ seed: 5, n: 3 });
    const said = (choice?: OpenAI.ChatCompletion.Choice) => [
      choice?.message.content,
      choice?.logprobs?.content?.map(({ bytes }) => bytes),
    ];
    deepEqual(choices.map(said), alone.map(said));
    ok(new Set(choices.map(({ message }) => message.content)).size > 1, "seeds make a difference");
    for (const { logprobs, finish_reason } of choices) {
      equal(finish_reason, "length");
      equal(logprobs?.content?.length, 12);
      ok(logprobs?.content?.every(({ top_logprobs }) => top_logprobs.length === 2));
    }
    equal(usage?.completion_tokens, 36);
  });
});

Deno.test("four openai clients in parallel get what one alone gets, from a real engine", async () => {
  await withRealEngine(async (client, model) => {
    const whole = async (content: string) => {
      const messages = [{ role: "user" as const, content }];
      const request = { model, messages, temperature: 0, max_completion_tokens: 24 };
      return (await client.chat.completions.create(request)).choices[0]?.message.content;
    };
    const questions = ["one", "two", "three", "four"];
    const alone = [];
    for (const question of questions) alone.push(await whole(question));
    ok(new Set(alone).size > 1, "answers differ, so that they could be mixed up");
    deepEqual(await Promise.all(questions.map(whole)), alone);
  });
});

/** A client that asks for a stream and never reads a byte of it. */
async function deafClient({ url, model }: World): Promise<Deno.Conn> {
  const { hostname, port } = new URL(url);
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "hi" }], stream: true });
  const head = `POST /v1/chat/completions HTTP/1.1\r\nhost: ${hostname}\r\n` +
    `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`;
  const connection = await Deno.connect({ hostname, port: Number(port) });
  await connection.write(new TextEncoder().encode(head + body));
  return connection;
}

/** More than a socket holds many times over, token by token. */
const FLOOD = { endless: true, tokens: ["x".repeat(4_096)] };

Deno.test("a client that stops to read is left behind at a limit; others are served", async () => {
  await withWorld(FLOOD, async (world) => {
    const before = Deno.memoryUsage().rss;
    using _deaf = await deafClient(world);
    await until(world.node, "it is asked", ({ tasks }) => tasks.size === 1);
    // Queued behind an answer without an end, which only the limit can end.
    equal((await read(await ask(world, 1))).length, 4_096);
    const grown = Deno.memoryUsage().rss - before;
    ok(grown < 256 * MIB, `${Math.round(grown / MIB)} MiB more`);
  });
});

Deno.test("a client that reads nothing for too long has its generation cancelled", async () => {
  await withWorld(FLOOD, async (world) => {
    using deaf = await deafClient(world);
    await until(world.node, "it is asked", ({ tasks }) => tasks.size === 1);
    await until(world.node, "its task is gone", ({ tasks }) => tasks.size === 0);
    equal(await read(await ask(world, 1)), FLOOD.tokens[0]);
    // What was sent is still there, and at its end the reason.
    let tail = "";
    const decoder = new TextDecoder();
    const bytes = new Uint8Array(MIB);
    await eventually("the stream says why it ended", async () => {
      tail = (tail + decoder.decode(bytes.subarray(0, await deaf.read(bytes) ?? 0))).slice(-2_000);
      return tail.includes("[DONE]");
    });
    ok(tail.includes("client_too_slow"), tail);
  }, { stallMs: 300 });
});
