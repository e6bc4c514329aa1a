import { equal, ok } from "node:assert/strict";
import { encodeSse, type SseMessage, sseResponse } from "../../api/sse.ts";

const ignore = () => {};
const deaf = { onDisconnect: ignore, onStall: ignore };

Deno.test("encodeSse() frames data, events, comments and lines", () => {
  equal(encodeSse({ data: "x" }), "data: x\n\n");
  equal(encodeSse({ data: "a\nb", event: "e" }), "event: e\ndata: a\ndata: b\n\n");
  equal(encodeSse({ comment: "keep-alive" }), ": keep-alive\n\n");
});

Deno.test("sseResponse() starts with a keep-alive and repeats it in silence", async () => {
  const more = Promise.withResolvers<void>();
  async function* source(): AsyncGenerator<SseMessage> {
    await more.promise;
    yield { data: "late" };
  }
  const response = sseResponse(source(), { ...deaf, keepAliveMs: 1 });
  equal(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  equal(response.headers.get("cache-control"), "no-cache");
  equal(response.headers.get("x-accel-buffering"), "no");
  let text = "";
  let count = 0;
  for await (const piece of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += piece;
    if (++count === 3) more.resolve();
  }
  ok(text.startsWith(": keep-alive\n\n: keep-alive\n\n: keep-alive\n\n"), text);
  ok(text.endsWith("data: late\n\n"), text);
});

Deno.test("sseResponse() asks for a message only when the client takes one", async () => {
  let made = 0;
  async function* source(): AsyncGenerator<SseMessage> {
    while (made < 1_000) yield { data: `${++made}` };
  }
  const reader = sseResponse(source(), deaf).body?.getReader();
  await reader?.read();
  for (let taken = 1; taken <= 10; taken++) {
    await reader?.read();
    ok(made <= taken, `made ${made} after ${taken} were taken`);
  }
  await reader?.cancel();
});

Deno.test("sseResponse() tells of a client that is gone while its source is silent", async () => {
  let isGone = false;
  const silence = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  const returned = Promise.withResolvers<void>();
  async function* source(): AsyncGenerator<SseMessage> {
    try {
      started.resolve();
      await silence.promise;
      yield { data: "never taken" };
    } finally {
      returned.resolve();
    }
  }
  const reader = sseResponse(source(), { ...deaf, onDisconnect: () => isGone = true }).body
    ?.getReader();
  await reader?.read();
  const pending = reader?.read();
  await started.promise;
  await reader?.cancel();
  equal(isGone, true);
  equal((await pending)?.done, true);
  silence.resolve();
  await returned.promise;
});

Deno.test("sseResponse() tells of a client that has stopped to read, and lets it read again", async () => {
  const stalled = Promise.withResolvers<void>();
  async function* source(): AsyncGenerator<SseMessage> {
    yield { data: "unread" };
    await stalled.promise;
    yield { data: "why it ends" };
  }
  const onStall = () => stalled.resolve();
  const reader = sseResponse(source(), { ...deaf, onStall, stallMs: 1 }).body?.getReader();
  const next = async () => new TextDecoder().decode((await reader?.read())?.value);
  equal(await next(), ": keep-alive\n\n");
  await stalled.promise;
  equal(await next(), "data: unread\n\n");
  equal(await next(), "data: why it ends\n\n");
  equal((await reader?.read())?.done, true);
});
