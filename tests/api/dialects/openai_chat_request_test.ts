import { deepEqual, equal, throws } from "node:assert/strict";
import { decode } from "../../../api/dialects/openai_chat.ts";
import { CHOICES_MAX } from "../../../api/choices.ts";
import { AppError, type ErrorCode } from "../../../core/errors.ts";
import { LOGIT_BIAS_MAX, TextGenerationPayload, TOP_LOGPROBS_MAX } from "../../../core/task.ts";
import { chatOf } from "../requests.ts";

const read = (fields: object = {}) => decode(chatOf(fields), () => "77");

const manyTokens = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, id) => [id, 1]));

function refused(fields: object, code: ErrorCode, param: string): void {
  throws(() => read(fields), (error: AppError) => {
    equal(error.code, code, JSON.stringify(fields));
    equal(error.param, param, JSON.stringify(fields));
    return true;
  });
}

Deno.test("decode() reads a bare request with nothing decided but the seed", () => {
  deepEqual(read(), {
    model: "tiny",
    stream: false,
    includeUsage: false,
    choices: 1,
    payload: {
      messages: [{ role: "user", content: "hi" }],
      sampling: {},
      stop: [],
      seed: "77",
    },
  });
});

Deno.test("decode() maps every parameter that is built", () => {
  const { payload, stream, includeUsage, choices, user } = read({
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: 5,
    max_completion_tokens: 6,
    temperature: 0,
    top_p: 0.5,
    top_k: 40,
    min_p: 0.1,
    repetition_penalty: 1.1,
    repetition_context_size: 64,
    presence_penalty: -0.5,
    frequency_penalty: 0.25,
    logit_bias: { "50256": -100, "7": 0.5 },
    logprobs: true,
    top_logprobs: 5,
    ignore_eos: true,
    use_prefix_cache: false,
    n: 3,
    seed: 1,
    stop: "END",
    user: "ada",
  });
  deepEqual({ stream, includeUsage, choices }, { stream: true, includeUsage: true, choices: 3 });
  equal(user, "ada");
  deepEqual(payload, {
    messages: [{ role: "user", content: "hi" }],
    sampling: {
      temperature: 0,
      topP: 0.5,
      topK: 40,
      minP: 0.1,
      repetitionPenalty: 1.1,
      repetitionContextTokens: 64,
      presencePenalty: -0.5,
      frequencyPenalty: 0.25,
    },
    maxTokens: 6,
    stop: ["END"],
    seed: "1",
    logitBias: [[7, 0.5], [50256, -100]],
    topLogprobs: 5,
    ignoreEos: true,
    usePrefixCache: false,
  });
  equal(TextGenerationPayload.safeParse(payload).success, true);
});

Deno.test("decode() reads null as absent, as OpenAI's clients send it", () => {
  const absent = {
    stream: null,
    stream_options: null,
    max_tokens: null,
    temperature: null,
    top_p: null,
    seed: null,
    stop: null,
    n: null,
    tools: null,
    logit_bias: null,
    logprobs: null,
    top_logprobs: null,
    frequency_penalty: null,
    ignore_eos: null,
    user: null,
    response_format: null,
  };
  deepEqual(read(absent), read());
});

Deno.test("decode() takes the limit cases of sampling that others allow", () => {
  deepEqual(read({ top_p: 0, top_k: 40 }).payload.sampling, { topK: 1 });
  deepEqual(read({ top_k: -1 }).payload.sampling, { topK: 0 });
  equal(read({ seed: -1 }).payload.seed, "18446744073709551615");
  equal(read({ max_tokens: 3 }).payload.maxTokens, 3);
});

Deno.test("decode() joins text parts with newlines, in a list or alone", () => {
  const part = (text: string) => ({ type: "text", text });
  const [list, alone] = read({
    messages: [
      { role: "user", content: [part("a"), part("b")] },
      { role: "user", content: part("c") },
    ],
  }).payload.messages;
  equal(list?.content, "a\nb");
  equal(alone?.content, "c");
});

Deno.test("decode() skips messages without content, and keeps one empty turn", () => {
  const said = { role: "user", content: "", name: "ada" };
  const skipped = { role: "assistant", content: null };
  deepEqual(read({ messages: [skipped, said] }).payload.messages, [said]);
  deepEqual(read({ messages: [skipped] }).payload.messages, [{ role: "user", content: "" }]);
});

Deno.test("decode() takes parameters that change no answer", () => {
  deepEqual(
    read({
      metadata: { a: "b" },
      store: true,
      n: 1,
      tools: [],
      tool_choice: "none",
      logprobs: false,
      top_logprobs: 0,
      response_format: { type: "text" },
      parallel_tool_calls: true,
      service_tier: "auto",
      logit_bias: {},
      modalities: ["text"],
      reasoning_effort: "none",
    }),
    read(),
  );
  // A penalty that is none is said to an instance that may have another default.
  deepEqual(read({ frequency_penalty: 0 }).payload.sampling, { frequencyPenalty: 0 });
  deepEqual(read({ tools: [{ type: "function" }], tool_choice: "none" }), read());
});

Deno.test("decode() refuses what would change the answer and is not built", () => {
  const cases: Record<string, unknown> = {
    tools: [{ type: "function" }],
    tool_choice: "required",
    functions: [{}],
    response_format: { type: "json_object" },
    modalities: ["text", "audio"],
    reasoning_effort: "high",
    enable_thinking: true,
  };
  for (const [param, value] of Object.entries(cases)) {
    refused({ [param]: value }, "unsupported_parameter", param);
  }
});

Deno.test("decode() refuses images and tools in the conversation, naming the message", () => {
  const image = { type: "image_url", image_url: { url: "data:," } };
  const one = (message: object) => ({ messages: [{ role: "user", content: "a" }, message] });
  const code = "unsupported_parameter";
  refused(one({ role: "user", content: [image] }), code, "messages.1.content.0");
  refused(one({ role: "user", content: image }), code, "messages.1.content");
  refused(one({ role: "tool", content: "4" }), code, "messages.1.role");
  const call = { role: "assistant", content: null, tool_calls: [{ id: "1" }] };
  refused(one(call), code, "messages.1.tool_calls");
});

Deno.test("decode() names the field of a wrong type, range or spelling", () => {
  const cases: [object, string][] = [
    [{ model: 1 }, "model"],
    [{ model: "" }, "model"],
    [{ messages: undefined }, "messages"],
    [{ messages: [] }, "messages"],
    [{ messages: "hi" }, "messages"],
    [{ messages: [{ role: "robot", content: "" }] }, "messages.0.role"],
    [{ messages: [{ role: "user", content: 5 }] }, "messages.0.content"],
    [{ messages: [{ role: "user", content: [{ type: "text" }] }] }, "messages.0.content.0.text"],
    [{ messages: [{ role: "user", content: [{ type: 1 }] }] }, "messages.0.content.0.type"],
    [{ temperature: 2.1 }, "temperature"],
    [{ temperature: "0" }, "temperature"],
    [{ top_p: 1.5 }, "top_p"],
    [{ top_k: 1.5 }, "top_k"],
    [{ max_tokens: 0 }, "max_tokens"],
    [{ seed: 0.5 }, "seed"],
    [{ seed: 2 ** 60 }, "seed"],
    [{ stop: [""] }, "stop.0"],
    [{ stop: Array(17).fill("a") }, "stop"],
    [{ stream: "yes" }, "stream"],
    [{ temprature: 1 }, "temprature"],
    [{ n: 0 }, "n"],
    [{ n: CHOICES_MAX + 1 }, "n"],
    [{ logit_bias: { hello: 1 } }, "logit_bias"],
    [{ logit_bias: { "-1": 1 } }, "logit_bias"],
    [{ logit_bias: { "07": 1 } }, "logit_bias"],
    [{ logit_bias: { "9007199254740993": 1 } }, "logit_bias"],
    [{ logit_bias: { "7": 101 } }, "logit_bias.7"],
    [{ logit_bias: manyTokens(LOGIT_BIAS_MAX + 1) }, "logit_bias"],
    [{ logprobs: true, top_logprobs: TOP_LOGPROBS_MAX + 1 }, "top_logprobs"],
    [{ top_logprobs: 1 }, "top_logprobs"],
    [{ logprobs: false, top_logprobs: 1 }, "top_logprobs"],
    [{ frequency_penalty: 2.1 }, "frequency_penalty"],
    [{ presence_penalty: -2.1 }, "presence_penalty"],
    [{ repetition_penalty: 0 }, "repetition_penalty"],
    [{ repetition_context_size: -1 }, "repetition_context_size"],
    [{ ignore_eos: 1 }, "ignore_eos"],
    [{ use_prefix_cache: "no" }, "use_prefix_cache"],
    [{ user: 5 }, "user"],
  ];
  for (const [fields, param] of cases) refused(fields, "invalid_request", param);
});

Deno.test("decode() asks for log-probabilities of the chosen token alone when no others are", () => {
  equal(read({ logprobs: true }).payload.topLogprobs, 0);
  equal(read({ logprobs: true, top_logprobs: TOP_LOGPROBS_MAX }).payload.topLogprobs, 20);
});

Deno.test("decode() takes as many biased tokens as there may be, and no bias for none", () => {
  const { logitBias } = read({ logit_bias: manyTokens(LOGIT_BIAS_MAX) }).payload;
  equal(logitBias?.length, LOGIT_BIAS_MAX);
  equal(read({ logit_bias: {} }).payload.logitBias, undefined);
});

Deno.test("decode() prefers the newer name of who a program asks for", () => {
  equal(read({ user: "old", safety_identifier: "new" }).user, "new");
});
