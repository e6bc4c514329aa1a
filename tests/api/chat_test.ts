import { deepEqual, equal, match, ok } from "node:assert/strict";
import { serveApi } from "../../api/server.ts";
import { AppError } from "../../core/errors.ts";
import { metaCreated, metaId, metaOf } from "../support/control_plane.ts";
import { type Asked, cardOf, FakeGateway, FINISH, TINY, token } from "../support/fake_gateway.ts";
import { appOver, chatOf, errorOf } from "./requests.ts";

const PATH = "/v1/chat/completions";

/** An answer that goes on until it is cancelled. */
async function* endless({ signal }: Asked) {
  while (!signal.aborted) {
    yield token("word ");
    await Promise.resolve();
  }
}

/** A promise that resolves when the request of `asked` is cancelled. */
function aborted({ signal }: Asked): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}

/** A served fake node, until the returned function is called. */
async function served() {
  const gateway = new FakeGateway();
  gateway.placeModel();
  const stop = new AbortController();
  const server = await serveApi(gateway, { hostname: "127.0.0.1", port: 0, signal: stop.signal });
  const post = (fields: object, signal?: AbortSignal) =>
    fetch(server.url + PATH, {
      method: "POST",
      body: JSON.stringify(chatOf(fields)),
      ...(signal ? { signal } : {}),
    });
  const close = async () => {
    stop.abort();
    await server.finished;
  };
  return { gateway, post, close };
}

Deno.test("A chat is answered whole, with the command's id in a header", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel();
  const response = await post(PATH, chatOf());
  equal(response.status, 200);
  const reply = await response.json();
  equal(response.headers.get("x-exo-command-id"), reply.id);
  equal(reply.choices[0].message.content, "Hello world");
  equal(reply.usage.total_tokens, 7);
  equal(reply.model, TINY);
  equal(reply.created, 1_750_000_000);
});

Deno.test("A stream starts with a keep-alive and ends with [DONE]", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel();
  const response = await post(PATH, chatOf({ stream: true }));
  match(response.headers.get("content-type") ?? "", /text\/event-stream/);
  ok(response.headers.get("x-exo-command-id"));
  const text = await response.text();
  ok(text.startsWith(": keep-alive\n\ndata: "), text);
  ok(text.endsWith("data: [DONE]\n\n"), text);
});

Deno.test("The seed is drawn by the node when the client names none", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel();
  await (await post(PATH, chatOf())).body?.cancel();
  await (await post(PATH, chatOf({ seed: 5 }))).body?.cancel();
  deepEqual(gateway.asked.map(({ payload }) => payload.seed), ["4242", "5"]);
});

Deno.test("What is refused before the first byte decides the status, streamed or not", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel();
  gateway.accept = () => {
    throw new AppError("context_length_exceeded", "Prompt of 9 tokens: 8 fit");
  };
  for (const stream of [false, true]) {
    const response = await post(PATH, chatOf({ stream }));
    equal(response.status, 400);
    equal((await errorOf(response)).exo_code, "context_length_exceeded");
  }
  gateway.accept = () => {
    throw new AppError("queue_full", "Queue is full");
  };
  const busy = await post(PATH, chatOf({ stream: true }));
  equal(busy.status, 429);
  equal(busy.headers.get("retry-after"), "1");
  await busy.body?.cancel();
});

Deno.test("An error of the generation is a status when nothing was sent yet", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel();
  const error = { code: "runner_failed", message: "Runner died" } as const;
  gateway.answer = () => [token("Hi"), { type: "Error", error }];
  const whole = await post(PATH, chatOf());
  equal(whole.status, 500);
  equal((await errorOf(whole)).message, "Runner died");
  const streamed = await (await post(PATH, chatOf({ stream: true }))).text();
  match(streamed, /"message":"Runner died","type":"InternalServerError"/);
  ok(streamed.endsWith("data: [DONE]\n\n"));
});

Deno.test("A node that was lost is a 503, which says when to ask again", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel();
  const error = new AppError("node_lost", "Node is gone", { hint: "ask again" });
  const refused = () => Promise.reject(error);
  const broken = () => [{ type: "Error" as const, error: error.toInfo() }];
  for (const where of ["before", "after"]) {
    if (where === "before") gateway.accept = refused;
    else gateway.answer = broken;
    const response = await post(PATH, chatOf());
    equal(response.status, 503, where);
    equal(response.headers.get("retry-after"), "1", where);
    equal((await errorOf(response)).exo_code, "node_lost");
    gateway.accept = () => {};
  }
});

Deno.test("A model without an instance is a 404 with the next step", async () => {
  const { gateway, post } = appOver();
  gateway.addCard(cardOf());
  const known = await errorOf(await post(PATH, chatOf()));
  equal(known.message, `No instance found for model ${TINY}`);
  equal(known.hint, `exo instance create ${TINY}`);
  const unknown = await errorOf(await post(PATH, chatOf({ model: "tini-0123abcd" })));
  equal(unknown.message, "No instance found for model tini-0123abcd");
  equal(unknown.hint, `did you mean ${TINY}?`);
  equal(unknown.param, "model");
});

Deno.test("A model that is declared but has no instance is told with how its wish fares", async () => {
  const { gateway, post } = appOver();
  gateway.addCard(cardOf());
  const spec = { modelId: cardOf().modelId };
  gateway.emit(metaCreated(metaOf("wish", { ...spec, placementError: "no room" })));
  const placing = await errorOf(await post(PATH, chatOf()));
  equal(
    placing.message,
    `No instance found for model ${TINY}: meta-instance wish is placing (no room)`,
  );
  equal(placing.hint, "exo meta-instance show wish");
  gateway.emit({ type: "MetaInstanceParked", metaInstanceId: metaId("wish"), reason: "mini: OOM" });
  const parked = await errorOf(await post(PATH, chatOf()));
  match(parked.message, /: meta-instance wish is parked \(mini: OOM\)$/);
  equal(parked.hint, "mend that, then: exo meta-instance retry wish");
});

Deno.test("A prefix means a placed model first, a whole name means itself", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel("org/llama-8b");
  gateway.addCard(cardOf("org/llama-1b"));
  gateway.addCard(cardOf("org/llama"));
  await (await post(PATH, chatOf({ model: "llama-" }))).body?.cancel();
  equal(gateway.asked[0]?.modelId, "org/llama-8b");
  const exact = await errorOf(await post(PATH, chatOf({ model: "org/llama" })));
  equal(exact.message, "No instance found for model org/llama");
});

Deno.test("A prefix that several placed models share is told with all of them", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel("org/llama-8b");
  gateway.placeModel("org/llama-1b");
  const error = await errorOf(await post(PATH, chatOf({ model: "llama" })));
  equal(error.code, 404);
  match(error.hint ?? "", /could be org\/llama-8b, org\/llama-1b/);
});

Deno.test("A client that leaves a stream cancels its generation", async () => {
  const { gateway, post, close } = await served();
  gateway.answer = endless;
  const client = new AbortController();
  const response = await post({ stream: true }, client.signal);
  await response.body?.getReader().read();
  const [asked] = gateway.asked;
  ok(asked && !asked.signal.aborted);
  client.abort();
  await aborted(asked);
  await close();
});

Deno.test("A client that leaves while it waits for a whole answer cancels it too", async () => {
  const { gateway, post, close } = await served();
  const started = Promise.withResolvers<Asked>();
  gateway.answer = async function* (asked) {
    started.resolve(asked);
    await aborted(asked);
    yield { ...FINISH, finishReason: "cancelled" };
  };
  const client = new AbortController();
  const reply = post({}, client.signal).catch(() => "gone");
  const asked = await started.promise;
  client.abort();
  await aborted(asked);
  equal(await reply, "gone");
  await close();
});

Deno.test("A client that leaves before the runner accepts cancels the generation", async () => {
  const { gateway, post, close } = await served();
  const started = Promise.withResolvers<Asked>();
  gateway.accept = async (asked) => {
    started.resolve(asked);
    await aborted(asked);
    throw new AppError("cancelled", "gone");
  };
  const client = new AbortController();
  const reply = post({ stream: true }, client.signal).catch(() => "gone");
  const asked = await started.promise;
  client.abort();
  await aborted(asked);
  equal(await reply, "gone");
  await close();
});

Deno.test("A client that stops reading slows its own generation only", async () => {
  const { gateway, post, close } = await served();
  let made = 0;
  const filler = "x".repeat(10_000);
  gateway.answer = async function* (asked) {
    while (!asked.signal.aborted && made < 100_000) {
      made++;
      yield token(filler);
    }
    yield FINISH;
  };
  const client = new AbortController();
  const slow = await post({ stream: true }, client.signal);
  await slow.body?.getReader().read();
  // Another client gets whole answers while the first one reads nothing.
  gateway.answer = () => [token("Hello"), FINISH];
  let before = -1;
  while (before !== made) {
    before = made;
    for (let i = 0; i < 20; i++) equal((await (await post({})).json()).usage.total_tokens, 7);
  }
  // 1 GB would have come without back-pressure; sockets hold some megabytes.
  ok(made < 5_000, `${made} chunks were made for a client that reads nothing`);
  client.abort();
  await close();
});

Deno.test("A generation knows who asks: the address, and a user that cannot be read", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel();
  const users = [{}, { user: "ada" }, { user: "ada" }, { safety_identifier: "bob" }];
  for (const user of users) await (await post(PATH, chatOf(user))).body?.cancel();
  const [plain, ada, again, bob] = gateway.asked.map(({ payload }) => payload.client);
  equal(plain, "127.0.0.1");
  match(ada ?? "", /^127\.0\.0\.1\/[0-9a-f]{16}$/);
  equal(again, ada);
  equal(bob === ada, false);
});

Deno.test("Several answers come in one reply, with the ids of all in the header", async () => {
  const { gateway, post } = appOver();
  gateway.placeModel();
  gateway.answer = ({ payload }) => [token(`seed ${payload.seed}`), FINISH];
  const response = await post(PATH, chatOf({ n: 3, seed: 7 }));
  const reply = await response.json();
  const texts = reply.choices.map((choice: { message: { content: string } }) =>
    choice.message.content
  );
  deepEqual(texts, ["seed 7", "seed 8", "seed 9"]);
  const ids = response.headers.get("x-exo-command-id")?.split(", ") ?? [];
  equal(new Set(ids).size, 3);
  equal(ids[0], reply.id);
  deepEqual([reply.usage.prompt_tokens, reply.usage.completion_tokens], [5, 6]);
});

Deno.test("A client that leaves cancels all of its answers, streamed or not", async () => {
  const { gateway, post, close } = await served();
  for (const stream of [true, false]) {
    gateway.asked.length = 0;
    const begun = Promise.withResolvers<void>();
    gateway.answer = async function* (asked) {
      yield token("word ");
      if (gateway.asked.length === 3) begun.resolve();
      await aborted(asked);
      yield { ...FINISH, finishReason: "cancelled" };
    };
    const client = new AbortController();
    const reply = post({ stream, n: 3 }, client.signal).then(
      async (response) => {
        for await (const _ of response.body ?? []);
      },
    ).catch(() => "gone");
    await begun.promise;
    client.abort();
    await Promise.all(gateway.asked.map(aborted));
    equal(await reply, "gone");
  }
  await close();
});

Deno.test("A client that stops reading holds all of its answers, and ends none of them", async () => {
  const { gateway, post, close } = await served();
  const made = new Map<string, number>();
  const filler = "x".repeat(10_000);
  gateway.answer = async function* ({ payload: { seed }, signal }) {
    for (let count = 1; !signal.aborted && count < 100_000; count++) {
      made.set(seed, count);
      yield token(filler);
    }
    yield FINISH;
  };
  const client = new AbortController();
  const slow = await post({ stream: true, n: 4, seed: 0 }, client.signal);
  const reader = slow.body?.getReader();
  await reader?.read();
  gateway.answer = () => [token("Hello"), FINISH];
  const sum = () => [...made.values()].reduce((total, count) => total + count, 0);
  let before = -1;
  while (before !== sum()) {
    before = sum();
    for (let i = 0; i < 20; i++) await (await post({})).body?.cancel();
  }
  ok(before < 5_000, `${before} chunks were made for a client that reads nothing`);
  // It reads again, and all of them go on.
  const held = new Map(made);
  while ([...held].some(([seed, count]) => made.get(seed) === count)) await reader?.read();
  equal(made.size, 4);
  client.abort();
  await close();
});
