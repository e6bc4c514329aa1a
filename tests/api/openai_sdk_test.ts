import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import OpenAI from "openai";
import { type ApiOptions, serveApi } from "../../api/server.ts";
import type { Chunk } from "../../core/chunk.ts";
import { AppError } from "../../core/errors.ts";
import { type Asked, FakeGateway, FINISH, TINY, token } from "../support/fake_gateway.ts";

const MESSAGES = [{ role: "user" as const, content: "hi" }];

/** The official client against a served fake node. */
async function withClient(
  body: (client: OpenAI, gateway: FakeGateway) => Promise<void>,
  { usedKey, ...options }: ApiOptions & { usedKey?: string } = {},
): Promise<void> {
  const gateway = new FakeGateway();
  gateway.placeModel();
  const stop = new AbortController();
  const listen = { hostname: "127.0.0.1", port: 0, signal: stop.signal };
  const server = await serveApi(gateway, { ...options, ...listen });
  const baseURL = `${server.url}/v1`;
  const apiKey = usedKey ?? options.apiKey ?? "none";
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
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

Deno.test("The openai client has a class for each status that a generation is refused with", async () => {
  await withClient(async (client, gateway) => {
    const ask = () => client.chat.completions.create({ model: "tiny", messages: MESSAGES });
    const cases = [
      ["context_length_exceeded", OpenAI.BadRequestError],
      ["queue_full", OpenAI.RateLimitError],
      ["conflict", OpenAI.ConflictError],
      ["forbidden", OpenAI.PermissionDeniedError],
      ["runner_failed", OpenAI.InternalServerError],
      ["not_ready", OpenAI.InternalServerError],
      ["node_lost", OpenAI.InternalServerError],
      ["timed_out", OpenAI.InternalServerError],
    ] as const;
    for (const [code, kind] of cases) {
      gateway.accept = () => Promise.reject(new AppError(code, "Refused", { hint: "try again" }));
      await rejects(ask(), (error: unknown) => {
        ok(error instanceof kind, code);
        match(error.message, /Refused/);
        equal((error.error as Record<string, string>)["exo_code"], code);
        return true;
      });
    }
  });
});

Deno.test("The openai client says that nobody listens, and that it was told to stop", async () => {
  const gone = Promise.withResolvers<OpenAI>();
  await withClient((client) => Promise.resolve(gone.resolve(client)));
  await rejects((await gone.promise).models.list(), OpenAI.APIConnectionError);
  await withClient(async (client, gateway) => {
    const stop = new AbortController();
    gateway.accept = async ({ signal }: Asked) => {
      const left = new Promise((resolve) => signal.addEventListener("abort", resolve));
      stop.abort();
      await left;
      throw signal.reason;
    };
    const request = { model: "tiny", messages: MESSAGES, stream: true as const };
    const asked = client.chat.completions.create(request, { signal: stop.signal });
    await rejects(asked, OpenAI.APIUserAbortError);
  });
});

/** `fetch`, which calls `onComment` for each keep-alive that a reply brings. */
function listening(onComment: () => void): typeof fetch {
  return async (...args) => {
    const response = await fetch(...args);
    const heard = new TransformStream<Uint8Array, Uint8Array>({
      transform(bytes, controller) {
        if (new TextDecoder().decode(bytes).includes(": keep-alive\n\n")) onComment();
        controller.enqueue(bytes);
      },
    });
    return new Response(response.body?.pipeThrough(heard) ?? null, response);
  };
}

Deno.test("The openai client skips keep-alives, before the first token and between tokens", async () => {
  await withClient(async (client, gateway) => {
    // Two in the same silence: the first one of a stream comes without any.
    let wakeAt = 3;
    let count = 0;
    let wake = () => {};
    const silence = () => new Promise<void>((resolve) => wake = resolve);
    gateway.answer = async function* () {
      await silence();
      yield token("Hello");
      wakeAt = count + 2;
      await silence();
      yield token(" world");
      yield FINISH;
    };
    const listener = client.withOptions({
      fetch: listening(() => {
        if (++count >= wakeAt) wake();
      }),
    });
    const stream = listener.chat.completions.stream({ model: "tiny", messages: MESSAGES });
    const whole = await stream.finalChatCompletion();
    equal(whole.choices[0]?.message.content, "Hello world");
    ok(count >= 5, `${count} keep-alives`);
  }, { keepAliveMs: 5 });
});

/** A token of which the model was nearly sure, with one that it might have said instead. */
function likely(text: string): Chunk {
  const bytes = [...new TextEncoder().encode(text)];
  const other = { tokenId: 2, bytes: [0xe2, 0x82], logprob: -3 };
  const chosen = { tokenId: 1, bytes, logprob: -0.125 };
  return { type: "Token", text, tokenId: 1, logprobs: [{ ...chosen, top: [chosen, other] }] };
}

Deno.test("The openai client reads log-probabilities, whole and streamed", async () => {
  await withClient(async (client, gateway) => {
    gateway.answer = () => [likely("Hel"), likely("lo"), FINISH];
    const request = { model: "tiny", messages: MESSAGES, logprobs: true, top_logprobs: 2 };
    const reply = await client.chat.completions.create(request);
    const streamed = await client.chat.completions.stream(request).finalChatCompletion();
    for (const { choices } of [reply, streamed]) {
      const content = choices[0]?.logprobs?.content ?? [];
      deepEqual(content.map(({ token, logprob }) => [token, logprob]), [
        ["Hel", -0.125],
        ["lo", -0.125],
      ]);
      deepEqual(content[0]?.top_logprobs, [
        { token: "Hel", logprob: -0.125, bytes: [72, 101, 108] },
        { token: "\ufffd", logprob: -3, bytes: [0xe2, 0x82] },
      ]);
    }
    deepEqual(gateway.asked.map(({ payload }) => payload.topLogprobs), [2, 2]);
    const bare = await client.chat.completions.create({ ...request, top_logprobs: null });
    equal(bare.choices[0]?.message.content, "Hello");
    equal(gateway.asked.at(-1)?.payload.topLogprobs, 0);
  });
});

Deno.test("The openai client reads several answers, whole and streamed", async () => {
  await withClient(async (client, gateway) => {
    gateway.answer = ({ payload }) => [token(`seed `), token(payload.seed), FINISH];
    const request = { model: "tiny", messages: MESSAGES, n: 3, seed: 40 };
    const texts = ["seed 40", "seed 41", "seed 42"];
    const reply = await client.chat.completions.create(request);
    const streamed = await client.chat.completions.stream({
      ...request,
      stream_options: { include_usage: true },
    }).finalChatCompletion();
    for (const { choices, usage } of [reply, streamed]) {
      deepEqual(choices.map(({ index }) => index), [0, 1, 2]);
      deepEqual(choices.map(({ message }) => message.content), texts);
      deepEqual(choices.map((choice) => choice.finish_reason), ["stop", "stop", "stop"]);
      deepEqual([usage?.prompt_tokens, usage?.completion_tokens, usage?.total_tokens], [5, 6, 11]);
    }
  });
});

Deno.test("The openai client throws the error of one answer among several", async () => {
  await withClient(async (client, gateway) => {
    const error = { code: "runner_failed", message: "Runner died" } as const;
    gateway.answer = ({ payload }) =>
      payload.seed === "1" ? [{ type: "Error", error }] : [token("Hi"), FINISH];
    const request = { model: "tiny", messages: MESSAGES, n: 2, seed: 0 };
    await rejects(client.chat.completions.create(request), OpenAI.InternalServerError);
    const helper = client.chat.completions.stream(request);
    await rejects(helper.finalChatCompletion(), /Runner died/);
  });
});

Deno.test("The openai client sends penalties, biases and its user; usage tells cached tokens", async () => {
  await withClient(async (client, gateway) => {
    const usage = { promptTokens: 5, completionTokens: 2, cachedTokens: 4 };
    gateway.answer = () => [token("Hi"), { ...FINISH, usage } as Chunk];
    const reply = await client.chat.completions.create({
      model: "tiny",
      messages: MESSAGES,
      presence_penalty: 0.5,
      frequency_penalty: -0.5,
      logit_bias: { "7": -100 },
      user: "ada",
    });
    equal(reply.usage?.prompt_tokens_details?.cached_tokens, 4);
    const { sampling, logitBias, client: name } = gateway.asked[0]?.payload ?? {};
    deepEqual(sampling, { presencePenalty: 0.5, frequencyPenalty: -0.5 });
    deepEqual(logitBias, [[7, -100]]);
    match(name ?? "", /^127\.0\.0\.1\/[0-9a-f]{16}$/);
  });
});

Deno.test("The openai client is refused what does not go together", async () => {
  await withClient(async (client) => {
    const request = { model: "tiny", messages: MESSAGES, top_logprobs: 3 };
    await rejects(client.chat.completions.create(request), (error: unknown) => {
      ok(error instanceof OpenAI.BadRequestError);
      equal(error.param, "top_logprobs");
      match(error.message, /"logprobs": true beside it needed/);
      return true;
    });
  });
});
