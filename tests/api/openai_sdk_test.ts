import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import OpenAI from "openai";
import { serveApi } from "../../api/server.ts";
import { type Asked, FakeGateway, FINISH, TINY, token } from "../support/fake_gateway.ts";

const MESSAGES = [{ role: "user" as const, content: "hi" }];

/** The official client against a served fake node. */
async function withClient(
  body: (client: OpenAI, gateway: FakeGateway) => Promise<void>,
  { apiKey, usedKey = apiKey }: { apiKey?: string; usedKey?: string } = {},
): Promise<void> {
  const gateway = new FakeGateway();
  gateway.placeModel();
  const stop = new AbortController();
  const listen = { hostname: "127.0.0.1", port: 0, signal: stop.signal };
  const server = serveApi(gateway, { ...listen, apiKey });
  const baseURL = `${server.url}/v1`;
  const client = new OpenAI({ baseURL, apiKey: usedKey ?? "none", maxRetries: 0 });
  try {
    await body(client, gateway);
  } finally {
    stop.abort();
    await server.finished;
  }
}

Deno.test("The openai client reads a whole answer", async () => {
  await withClient(async (client) => {
    const reply = await client.chat.completions.create({ model: "tiny", messages: MESSAGES });
    equal(reply.choices[0]?.message.content, "Hello world");
    equal(reply.choices[0]?.finish_reason, "stop");
    equal(reply.usage?.total_tokens, 7);
  });
});

Deno.test("The openai client reads a stream with usage", async () => {
  await withClient(async (client) => {
    const stream = await client.chat.completions.create({
      model: "tiny",
      messages: MESSAGES,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    const finishes: unknown[] = [];
    let total = 0;
    for await (const chunk of stream) {
      equal(chunk.object, "chat.completion.chunk");
      text += chunk.choices[0]?.delta.content ?? "";
      const finish = chunk.choices[0]?.finish_reason;
      if (finish) finishes.push(finish);
      total += chunk.usage?.total_tokens ?? 0;
    }
    deepEqual([text, finishes, total], ["Hello world", ["stop"], 7]);
  });
});

Deno.test("The openai client's stream helper puts the answer together", async () => {
  await withClient(async (client) => {
    const stream = client.chat.completions.stream({ model: "tiny", messages: MESSAGES });
    const whole = await stream.finalChatCompletion();
    equal(whole.choices[0]?.message.content, "Hello world");
    equal(whole.choices[0]?.message.role, "assistant");
  });
});

Deno.test("The openai client throws typed errors with our message, code and param", async () => {
  await withClient(async (client) => {
    const ask = (fields: object) =>
      client.chat.completions.create({ model: "tiny", messages: MESSAGES, ...fields });
    await rejects(ask({ temperature: 9 }), (error: unknown) => {
      ok(error instanceof OpenAI.BadRequestError);
      equal(error.status, 400);
      equal(error.param, "temperature");
      match(error.message, /found 9, at most 2 needed/);
      return true;
    });
    await rejects(ask({ model: "nope" }), (error: unknown) => {
      ok(error instanceof OpenAI.NotFoundError);
      match(error.message, /No instance found for model nope/);
      const { hint, exo_code } = error.error as Record<string, string>;
      equal(exo_code, "model_not_found");
      ok(hint);
      return true;
    });
  });
});

Deno.test("The openai client throws an error that comes inside a stream", async () => {
  await withClient(async (client, gateway) => {
    const error = { code: "runner_failed", message: "Runner died" } as const;
    gateway.answer = () => [token("Hi"), { type: "Error", error }];
    const request = { model: "tiny", messages: MESSAGES, stream: true as const };
    const stream = await client.chat.completions.create(request);
    await rejects(
      async () => {
        for await (const chunk of stream) ok(chunk.choices);
      },
      (thrown: unknown) => {
        ok(thrown instanceof OpenAI.APIError);
        match(thrown.message, /Runner died/);
        return true;
      },
    );
  });
});

Deno.test("The openai client's abort cancels the generation", async () => {
  await withClient(async (client, gateway) => {
    const cancelled = Promise.withResolvers<void>();
    gateway.answer = async function* ({ signal }: Asked) {
      signal.addEventListener("abort", () => cancelled.resolve());
      yield token("Hi");
      await cancelled.promise;
      yield FINISH;
    };
    const request = { model: "tiny", messages: MESSAGES, stream: true as const };
    const stream = await client.chat.completions.create(request);
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break;
    }
    await cancelled.promise;
  });
});

Deno.test("The openai client shows its key and is refused with a wrong one", async () => {
  const list = async (client: OpenAI) => (await client.models.list()).data.map(({ id }) => id);
  await withClient(async (client) => deepEqual(await list(client), [TINY]), { apiKey: "k" });
  await withClient(async (client) => {
    await rejects(list(client), OpenAI.AuthenticationError);
  }, { apiKey: "k", usedKey: "wrong" });
});
