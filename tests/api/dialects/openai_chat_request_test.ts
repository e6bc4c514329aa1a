import { deepEqual, equal, throws } from "node:assert/strict";
import { decode } from "../../../api/dialects/openai_chat.ts";
import { AppError, type ErrorCode } from "../../../core/errors.ts";
import { chatOf } from "../requests.ts";

const read = (fields: object = {}) => decode(chatOf(fields), () => "77");

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
    payload: {
      messages: [{ role: "user", content: "hi" }],
      sampling: {},
      stop: [],
      seed: "77",
    },
  });
});

Deno.test("decode() maps every parameter that is built", () => {
  const { payload, stream, includeUsage } = read({
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: 5,
    max_completion_tokens: 6,
    temperature: 0,
    top_p: 0.5,
    top_k: 40,
    min_p: 0.1,
    seed: 1,
    stop: "END",
  });
  deepEqual({ stream, includeUsage }, { stream: true, includeUsage: true });
  deepEqual(payload.sampling, { temperature: 0, topP: 0.5, topK: 40, minP: 0.1 });
  equal(payload.maxTokens, 6);
  equal(payload.seed, "1");
  deepEqual(payload.stop, ["END"]);
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
      user: "u",
      metadata: { a: "b" },
      store: true,
      n: 1,
      tools: [],
      tool_choice: "none",
      logprobs: false,
      frequency_penalty: 0,
      presence_penalty: 0,
      repetition_penalty: 1,
      response_format: { type: "text" },
      parallel_tool_calls: true,
      service_tier: "auto",
      logit_bias: {},
      modalities: ["text"],
      reasoning_effort: "none",
    }),
    read(),
  );
  deepEqual(read({ tools: [{ type: "function" }], tool_choice: "none" }), read());
});

Deno.test("decode() refuses what would change the answer and is not built", () => {
  const cases: Record<string, unknown> = {
    n: 2,
    tools: [{ type: "function" }],
    tool_choice: "required",
    functions: [{}],
    logit_bias: { "5": 1 },
    logprobs: true,
    top_logprobs: 2,
    frequency_penalty: 0.5,
    presence_penalty: -1,
    repetition_penalty: 1.1,
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
  ];
  for (const [fields, param] of cases) refused(fields, "invalid_request", param);
});
