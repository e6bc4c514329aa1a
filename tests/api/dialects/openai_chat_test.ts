import { deepEqual, equal, rejects } from "node:assert/strict";
import { type Answer, encode, encodeStream } from "../../../api/dialects/openai_chat.ts";
import { encodeSse } from "../../../api/sse.ts";
import type { Chunk } from "../../../core/chunk.ts";
import { FINISH, TINY, token } from "../../support/fake_gateway.ts";

const ANSWER: Answer = { id: "c-1", modelId: TINY, createdAt: 1_750_000_000_900, version: "9.9" };

async function* flow(chunks: readonly Chunk[]) {
  yield* chunks;
}

async function transcript(chunks: readonly Chunk[], includeUsage = false): Promise<string> {
  let text = "";
  for await (const message of encodeStream(flow(chunks), ANSWER, { includeUsage })) {
    text += encodeSse(message);
  }
  return text;
}

/** The transcript with what repeats in every chunk left out. */
const short = (text: string) =>
  text.replaceAll(
    '"id":"c-1","object":"chat.completion.chunk","created":1750000000,' +
      '"model":"local/tiny-0123abcd","system_fingerprint":"exo-9.9"',
    "…",
  ).trimEnd().split("\n\n");

const USAGE = '"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,' +
  '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},' +
  '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,' +
  '"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}';
const STATS = ': generation_stats {"prompt_tps":50,"generation_tps":10,"prompt_tokens":5,' +
  '"generation_tokens":2,"peak_memory_usage":{"inBytes":1024},"prefix_cache_hit":"none"}';
const ROLE = 'data: {…,"choices":[{"index":0,"delta":{"role":"assistant"}}]}';

Deno.test("encodeStream() gives the golden transcript of an answer", async () => {
  const prefill = { type: "PrefillProgress", processedTokens: 2, totalTokens: 5 } as const;
  deepEqual(short(await transcript([prefill, token("Hi"), token("!"), FINISH])), [
    ROLE,
    ': prefill_progress {"PrefillProgressChunk":{"model":"local/tiny-0123abcd",' +
    '"processed_tokens":2,"total_tokens":5}}',
    'data: {…,"choices":[{"index":0,"delta":{"content":"Hi"}}]}',
    'data: {…,"choices":[{"index":0,"delta":{"content":"!"}}]}',
    `data: {…,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],${USAGE}}`,
    STATS,
    "data: [DONE]",
  ]);
});

Deno.test("encodeStream() gives usage a chunk of its own to those who asked for it", async () => {
  deepEqual(short(await transcript([FINISH], true)), [
    ROLE,
    'data: {…,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    `data: {…,"choices":[],${USAGE}}`,
    STATS,
    "data: [DONE]",
  ]);
});

Deno.test("encodeStream() ends an error with its event and [DONE], without nulls", async () => {
  const error = { code: "runner_failed", message: "Runner died", hint: "wait" } as const;
  deepEqual(short(await transcript([token("Hi"), { type: "Error", error }])).slice(2), [
    'data: {"error":{"message":"Runner died","type":"InternalServerError","code":500,' +
    '"exo_code":"runner_failed","hint":"wait"}}',
    "data: [DONE]",
  ]);
});

Deno.test("encodeStream() says so when the chunks end without an end", async () => {
  const [error, done] = short(await transcript([token("Hi")])).slice(2);
  equal(
    error,
    'data: {"error":{"message":"instance was removed while generating",' +
      '"type":"ServiceUnavailable","code":503,"exo_code":"instance_removed",' +
      '"hint":"place the model again, then ask again: exo instance create MODEL"}}',
  );
  equal(done, "data: [DONE]");
});

Deno.test("encodeStream() calls a cancelled answer stopped, with a field of ours", async () => {
  const last = short(await transcript([{ ...FINISH, finishReason: "cancelled" } as Chunk]))[1];
  equal(last?.includes('"finish_reason":"stop","exo_finish_reason":"cancelled"'), true);
});

Deno.test("encode() gives one completion with the whole text", async () => {
  const length = { ...FINISH, finishReason: "length" } as Chunk;
  const reply = await encode(flow([token("Hi"), token("!"), length]), ANSWER) as {
    object: string;
    choices: unknown[];
  };
  equal(reply.object, "chat.completion");
  const message = { role: "assistant", content: "Hi!" };
  deepEqual(reply.choices, [{ index: 0, message, finish_reason: "length" }]);
});

Deno.test("encode() throws what the generation ended with", async () => {
  const error = { code: "runner_failed", message: "Runner died" } as const;
  await rejects(encode(flow([token("Hi"), { type: "Error", error }]), ANSWER), /Runner died/);
  await rejects(encode(flow([token("Hi")]), ANSWER), /removed while generating/);
});
