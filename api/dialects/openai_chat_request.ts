import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import { show } from "../../core/issues.ts";
import type { ChatMessage, TextGenerationPayload } from "../../core/task.ts";
import { CHOICES_MAX } from "../choices.ts";
import { type Examples, parse, unsupported } from "../errors.ts";
import { generationOf, optional, SAMPLING_FIELDS, seedOf } from "./openai_sampling.ts";

/** Most messages of one request. */
const MESSAGES_MAX = 10_000;

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
  ...SAMPLING_FIELDS,
  n: optional(z.int().min(1).max(CHOICES_MAX)),
  user: optional(text),
  safety_identifier: optional(text),
  // Refused when they ask for something that is not built; see `REFUSED`.
  tools: optional(z.array(z.unknown())),
  functions: optional(z.array(z.unknown())),
  tool_choice: anything,
  function_call: anything,
  response_format: optional(z.looseObject({ type: text })),
  modalities: optional(z.array(text)),
  reasoning_effort: optional(text),
  enable_thinking: optional(z.boolean()),
  verbosity: optional(text),
  // Taken and without effect: they name, store or speed up, and change no answer.
  metadata: anything,
  store: anything,
  service_tier: anything,
  parallel_tool_calls: anything,
  prediction: anything,
  prompt_cache_key: anything,
  prompt_cache_retention: anything,
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
  tools: {
    allowed: (tools: unknown[], body) => tools.length === 0 || body.tool_choice === "none",
    needed: "an empty list",
    hint: 'leave "tools" out, or set "tool_choice" to "none"',
  },
  functions: { allowed: (list: unknown[]) => list.length === 0, needed: "an empty list" },
  tool_choice: { allowed: isNoTool, needed: '"none" or "auto"' },
  function_call: { allowed: isNoTool, needed: '"none" or "auto"' },
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
  n: 2,
  frequency_penalty: 0.5,
  presence_penalty: 0.5,
  repetition_penalty: 1.1,
  repetition_context_size: 64,
  logit_bias: { "50256": -100 },
  "logit_bias.*": -100,
  top_logprobs: 5,
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
  /** Answers that are wanted. */
  readonly choices: number;
  /** For whom a program asks, by a name of its own. */
  readonly user?: string;
  readonly payload: TextGenerationPayload;
}

/**
 * Reads a chat request. `newSeed` gives the seed when the client names none.
 * @throws {AppError} `invalid_request` or `unsupported_parameter`, with the parameter at fault.
 */
export function decode(json: unknown, newSeed: () => string): ChatRequest {
  const body = parse(Body, json, EXAMPLES);
  refuse(body);
  const user = body.safety_identifier ?? body.user;
  return {
    model: body.model,
    stream: body.stream ?? false,
    includeUsage: body.stream_options?.include_usage ?? false,
    choices: body.n ?? 1,
    ...(user === undefined ? {} : { user }),
    payload: {
      messages: messagesOf(body.messages),
      seed: body.seed === undefined ? newSeed() : seedOf(body.seed),
      ...generationOf(body),
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
