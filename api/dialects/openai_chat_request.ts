import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import type { SamplingParams } from "../../core/sampling.ts";
import {
  type ChatMessage,
  STOP_CHARS_MAX,
  STOP_STRINGS_MAX,
  type TextGenerationPayload,
} from "../../core/task.ts";
import { type Examples, parse, unsupported } from "../errors.ts";
import { show } from "../../core/issues.ts";

/** Most messages of one request. */
const MESSAGES_MAX = 10_000;

/** Null means absent, as OpenAI's clients send it. */
function optional<S extends z.ZodType>(schema: S) {
  return schema.nullish().transform((value) => value ?? undefined);
}

const text = z.string();
const Part = z.looseObject({ type: z.string() });
const Message = z.looseObject({
  role: z.enum(["system", "developer", "user", "assistant", "tool", "function"]),
  content: optional(z.union([text, z.array(Part), Part])),
  name: optional(text),
  reasoning_content: optional(text),
  tool_calls: optional(z.array(z.unknown())),
  function_call: z.unknown().optional(),
});

const stopString = text.min(1).max(STOP_CHARS_MAX);
const tokens = optional(z.int().min(1));
const anything = z.unknown().optional();

/**
 * The body of a chat request. Source: OpenAI API reference, chat completions (2025), with the
 * fields that other servers add for sampling.
 */
const Body = z.strictObject({
  model: text.min(1),
  messages: z.array(Message).min(1).max(MESSAGES_MAX),
  stream: optional(z.boolean()),
  stream_options: optional(z.looseObject({ include_usage: optional(z.boolean()) })),
  max_tokens: tokens,
  max_completion_tokens: tokens,
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().min(0).max(1)),
  top_k: optional(z.int().min(-1)),
  min_p: optional(z.number().min(0).max(1)),
  seed: optional(z.int()),
  stop: optional(z.union([stopString, z.array(stopString).max(STOP_STRINGS_MAX)])),
  // Refused when they ask for something that is not built; see `REFUSED`.
  n: optional(z.int().min(1)),
  tools: optional(z.array(z.unknown())),
  functions: optional(z.array(z.unknown())),
  tool_choice: anything,
  function_call: anything,
  logit_bias: optional(z.record(z.string(), z.unknown())),
  logprobs: optional(z.boolean()),
  top_logprobs: optional(z.int().min(0)),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  repetition_penalty: optional(z.number().min(0)),
  response_format: optional(z.looseObject({ type: text })),
  modalities: optional(z.array(text)),
  reasoning_effort: optional(text),
  enable_thinking: optional(z.boolean()),
  verbosity: optional(text),
  // Taken and without effect: they name, store or speed up, and change no answer.
  user: anything,
  metadata: anything,
  store: anything,
  service_tier: anything,
  parallel_tool_calls: anything,
  prediction: anything,
  prompt_cache_key: anything,
  prompt_cache_retention: anything,
  safety_identifier: anything,
  repetition_context_size: anything,
  use_prefix_cache: anything,
});
type Body = z.output<typeof Body>;

/** What a parameter may hold while its feature is not built, and how to go on without it. */
interface Limit {
  readonly allowed: (value: never, body: Body) => boolean;
  readonly needed: string;
  /** Without one: to leave the parameter out. */
  readonly hint?: string;
}

const REFUSED: Readonly<Partial<Record<keyof Body, Limit>>> = {
  n: {
    allowed: (n: number) => n === 1,
    needed: "1",
    hint: "send the request once for each answer",
  },
  tools: {
    allowed: (tools: unknown[], body) => tools.length === 0 || body.tool_choice === "none",
    needed: "an empty list",
    hint: 'leave "tools" out, or set "tool_choice" to "none"',
  },
  functions: { allowed: (list: unknown[]) => list.length === 0, needed: "an empty list" },
  tool_choice: { allowed: isNoTool, needed: '"none" or "auto"' },
  function_call: { allowed: isNoTool, needed: '"none" or "auto"' },
  logit_bias: {
    allowed: (bias: object) => Object.keys(bias).length === 0,
    needed: "an empty object",
  },
  logprobs: { allowed: (wanted: boolean) => !wanted, needed: "false" },
  top_logprobs: { allowed: (count: number) => count === 0, needed: "0" },
  frequency_penalty: { allowed: (penalty: number) => penalty === 0, needed: "0" },
  presence_penalty: { allowed: (penalty: number) => penalty === 0, needed: "0" },
  repetition_penalty: { allowed: (penalty: number) => penalty === 1, needed: "1" },
  response_format: {
    allowed: (format: { type: string }) => format.type === "text",
    needed: '"text"',
    hint: 'leave "response_format" out, ask for JSON in a message, and read it from the text',
  },
  modalities: {
    allowed: (list: string[]) => list.every((modality) => modality === "text"),
    needed: '["text"]',
  },
  reasoning_effort: { allowed: (effort: string) => effort === "none", needed: '"none"' },
  enable_thinking: { allowed: (wanted: boolean) => !wanted, needed: "false" },
  verbosity: { allowed: (level: string) => level === "medium", needed: '"medium"' },
};

function isNoTool(choice: unknown): boolean {
  return choice === "none" || choice === "auto";
}

/** What hints show: all of it is taken and honoured. */
const EXAMPLES: Examples = {
  model: "MODEL",
  messages: [{ role: "user", content: "hi" }],
  "messages.*": { role: "user", content: "hi" },
  "messages.*.role": "user",
  "messages.*.content": "hi",
  stop: "\n\n",
  frequency_penalty: 0,
  presence_penalty: 0,
  repetition_penalty: 1,
  top_logprobs: 0,
  response_format: { type: "text" },
  modalities: ["text"],
  reasoning_effort: "none",
  verbosity: "medium",
};

/** A chat request as the rest of the house knows it. */
export interface ChatRequest {
  readonly model: string;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly payload: TextGenerationPayload;
}

/**
 * Reads a chat request. `newSeed` gives the seed when the client names none.
 * @throws {AppError} `invalid_request` or `unsupported_parameter`, with the parameter at fault.
 */
export function decode(json: unknown, newSeed: () => string): ChatRequest {
  const body = parse(Body, json, EXAMPLES);
  refuse(body);
  const maxTokens = body.max_completion_tokens ?? body.max_tokens;
  return {
    model: body.model,
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    payload: {
      messages: messagesOf(body.messages),
      sampling: samplingOf(body),
      ...(maxTokens === undefined ? {} : { maxTokens }),
      stop: body.stop === undefined ? [] : [body.stop].flat(),
      seed: body.seed === undefined ? newSeed() : seedOf(body.seed),
    },
  };
}

function refuse(body: Body): void {
  for (const [param, { allowed, needed, hint }] of Object.entries(REFUSED)) {
    const value = body[param as keyof Body];
    if (value === undefined || value === null) continue;
    if (allowed(value as never, body)) continue;
    throw unsupported(param, { found: found(value), needed, hint: hint ?? without(param) });
  }
}

function without(param: string): string {
  return `leave "${param}" out`;
}

/** A value in a word: long ones are told by their kind. */
function found(value: unknown): string {
  if (Array.isArray(value) && value.some((one) => typeof one !== "string")) {
    return `a list of ${value.length}`;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return show(value);
  const type = (value as { type?: unknown }).type;
  return typeof type === "string" ? show(type) : "an object";
}

function samplingOf({ temperature, top_p, top_k, min_p }: Body): SamplingParams {
  return {
    ...(temperature === undefined ? {} : { temperature }),
    // A share of 0 keeps the most likely token alone, which top-k says without a limit case.
    ...(top_p === 0 ? { topK: 1 } : top_p === undefined ? {} : { topP: top_p }),
    // −1 is how other servers say that all tokens are kept.
    ...(top_k === undefined || top_p === 0 ? {} : { topK: Math.max(0, top_k) }),
    ...(min_p === undefined ? {} : { minP: min_p }),
  };
}

/** A negative seed is read as the 64 bits that it is in two's complement. */
function seedOf(seed: number): string {
  return BigInt.asUintN(64, BigInt(seed)).toString();
}

/** Messages whose content is null say nothing; where all are such, one empty turn is left. */
function messagesOf(messages: Body["messages"]): ChatMessage[] {
  const turns = messages.flatMap((message, index) => {
    const turn = messageOf(message, `messages.${index}`);
    return turn ? [turn] : [];
  });
  return turns.length > 0 ? turns : [{ role: "user", content: "" }];
}

function messageOf(message: Body["messages"][number], param: string): ChatMessage | undefined {
  const { role, content, name } = message;
  if (role === "tool" || role === "function") {
    const needed = "system, developer, user or assistant";
    throw unsupported(`${param}.role`, { found: show(role), needed, hint: without(param) });
  }
  if (message.tool_calls?.length || message.function_call) {
    const field = message.tool_calls?.length ? "tool_calls" : "function_call";
    const place = `${param}.${field}`;
    throw unsupported(place, { found: "a call of a tool", needed: "none", hint: without(place) });
  }
  if (content === undefined && message.reasoning_content === undefined) return undefined;
  const parts = content === undefined ? "" : contentOf(content, `${param}.content`);
  return { role, content: parts, ...(name === undefined ? {} : { name }) };
}

function contentOf(content: NonNullable<Body["messages"][number]["content"]>, param: string) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return partOf(content, param);
  return content.map((part, index) => partOf(part, `${param}.${index}`)).join("\n");
}

function partOf(part: z.output<typeof Part>, param: string): string {
  if (part.type !== "text") {
    throw unsupported(param, {
      found: `a part of type ${show(part.type)}`,
      needed: '"text"',
      hint: `leave "${param}" out, or send {"type":"text","text":"…"} in its place`,
    });
  }
  const value = part["text"];
  if (typeof value === "string") return value;
  const place = `${param}.text`;
  const message = `Cannot read "${place}": found ${show(value)}, a string needed`;
  const hint = `${value === undefined ? "add" : "set"} "${place}"${
    value === undefined ? ", such as" : " to a value such as"
  } "hi"`;
  throw new AppError("invalid_request", message, { param: place, hint });
}
