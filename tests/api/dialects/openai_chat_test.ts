import { deepEqual, equal, rejects } from "node:assert/strict";
import { type Answer, encode, encodeStream } from "../../../api/dialects/openai_chat.ts";
import type { ChoiceChunk } from "../../../api/choices.ts";
import { encodeSse } from "../../../api/sse.ts";
import type { Chunk } from "../../../core/chunk.ts";
import { FINISH, TINY, token } from "../../support/fake_gateway.ts";

const ANSWER: Answer = {
  id: "c-1",
  modelId: TINY,
  createdAt: 1_750_000_000_900,
  version: "9.9",
  choices: 1,
};

/** Chunks of the first choice, or of the one that each names. */
async function* flow(chunks: readonly (Chunk | ChoiceChunk)[]): AsyncGenerator<ChoiceChunk> {
  for (const chunk of chunks) yield "chunk" in chunk ? chunk : { index: 0, chunk };
}

async function transcript(
  chunks: readonly (Chunk | ChoiceChunk)[],
  { includeUsage = false, choices = 1 } = {},
): Promise<string> {
  let text = "";
  const answer = { ...ANSWER, choices };
  for await (const message of encodeStream(flow(chunks), answer, { includeUsage })) {
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
  deepEqual(short(await transcript([FINISH], { includeUsage: true })), [
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

/** What a model is as good as sure of, and half a character that it might have begun instead. */
const LIKELY = {
  tokenId: 7,
  bytes: [72, 105],
  logprob: -0.25,
  top: [
    { tokenId: 7, bytes: [72, 105], logprob: -0.25 },
    { tokenId: 9, bytes: [0xf0, 0x9f], logprob: -2 },
  ],
};
const ENCODED = '{"content":[{"token":"Hi","logprob":-0.25,"bytes":[72,105],"top_logprobs":[' +
  '{"token":"Hi","logprob":-0.25,"bytes":[72,105]},' +
  '{"token":"\ufffd","logprob":-2,"bytes":[240,159]}]}]}';

Deno.test("encodeStream() tells log-probabilities beside the text, and of tokens without text", async () => {
  const half: Chunk = { type: "Token", text: "", tokenId: 9, logprobs: [{ ...LIKELY, top: [] }] };
  const chunks = [{ ...token("Hi"), logprobs: [LIKELY] } as Chunk, half, FINISH];
  deepEqual(short(await transcript(chunks)).slice(1, 3), [
    `data: {…,"choices":[{"index":0,"delta":{"content":"Hi"},"logprobs":${ENCODED}}]}`,
    'data: {…,"choices":[{"index":0,"delta":{"content":""},"logprobs":{"content":[' +
    '{"token":"Hi","logprob":-0.25,"bytes":[72,105],"top_logprobs":[]}]}}]}',
  ]);
});

Deno.test("encode() gathers log-probabilities of all tokens", async () => {
  const one = { ...token("Hi"), logprobs: [LIKELY] } as Chunk;
  const reply = await encode(flow([one, one, FINISH]), ANSWER) as {
    choices: { logprobs: { content: unknown[] } }[];
  };
  const { content } = JSON.parse(ENCODED);
  deepEqual(reply.choices[0]?.logprobs, { content: [...content, ...content] });
});

/** Two answers, of which the second is shorter and found half of the prompt in the cache. */
const TWO: readonly ChoiceChunk[] = [
  { index: 0, chunk: { type: "PrefillProgress", processedTokens: 5, totalTokens: 5 } },
  { index: 1, chunk: { type: "PrefillProgress", processedTokens: 5, totalTokens: 5 } },
  { index: 1, chunk: token("No") },
  { index: 0, chunk: token("Yes") },
  {
    index: 1,
    chunk: {
      type: "Finish",
      finishReason: "length",
      usage: { promptTokens: 5, completionTokens: 1, cachedTokens: 4 },
      stats: {
        promptTokensPerSecond: 90,
        generationTokensPerSecond: 4,
        peakMemoryBytes: 2048,
        queueMilliseconds: 3,
        prefixCacheHit: "exact",
      },
    },
  },
  { index: 0, chunk: token("!") },
  { index: 0, chunk: FINISH },
];

Deno.test("encodeStream() gives each choice its index and end, and counts the prompt once", async () => {
  const stats = ': generation_stats {"prompt_tps":50,"generation_tps":14,"prompt_tokens":5,' +
    '"generation_tokens":3,"peak_memory_usage":{"inBytes":2048},"prefix_cache_hit":"none",' +
    '"queue_ms":3}';
  const usage = USAGE.replace(
    '"completion_tokens":2,"total_tokens":7',
    '"completion_tokens":3,' +
      '"total_tokens":8',
  );
  deepEqual(short(await transcript(TWO, { choices: 2 })), [
    ROLE,
    ROLE.replace('"index":0', '"index":1'),
    ': prefill_progress {"PrefillProgressChunk":{"model":"local/tiny-0123abcd",' +
    '"processed_tokens":5,"total_tokens":5}}',
    'data: {…,"choices":[{"index":1,"delta":{"content":"No"}}]}',
    'data: {…,"choices":[{"index":0,"delta":{"content":"Yes"}}]}',
    'data: {…,"choices":[{"index":1,"delta":{},"finish_reason":"length"}]}',
    'data: {…,"choices":[{"index":0,"delta":{"content":"!"}}]}',
    `data: {…,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],${usage}}`,
    stats,
    "data: [DONE]",
  ]);
  const asked = short(await transcript(TWO, { choices: 2, includeUsage: true }));
  deepEqual(asked.slice(-4, -2), [
    'data: {…,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    `data: {…,"choices":[],${usage}}`,
  ]);
});

Deno.test("encode() gives all choices by their index, each with its own end", async () => {
  const reply = await encode(flow(TWO), { ...ANSWER, choices: 2 }) as {
    choices: unknown[];
    usage: { prompt_tokens: number; total_tokens: number };
  };
  const said = (content: string) => ({ role: "assistant", content });
  deepEqual(reply.choices, [
    { index: 0, message: said("Yes!"), finish_reason: "stop" },
    { index: 1, message: said("No"), finish_reason: "length" },
  ]);
  deepEqual([reply.usage.prompt_tokens, reply.usage.total_tokens], [5, 8]);
});

Deno.test("A choice that fails fails the whole reply", async () => {
  const error = { code: "runner_failed", message: "Runner died" } as const;
  const failed: ChoiceChunk[] = [...TWO.slice(0, 5), { index: 0, chunk: { type: "Error", error } }];
  const answer = { ...ANSWER, choices: 2 };
  await rejects(encode(flow(failed), answer), /Runner died/);
  await rejects(encode(flow(TWO.slice(0, 5)), answer), /removed while generating/);
  const [last, done] = short(await transcript(failed, { choices: 2 })).slice(-2);
  equal(last?.startsWith('data: {"error":{"message":"Runner died"'), true);
  equal(done, "data: [DONE]");
});
