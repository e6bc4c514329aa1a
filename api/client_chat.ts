import type { GenerationStats } from "../core/chunk.ts";
import { AppError } from "../core/errors.ts";
import type { SamplingParams } from "../core/sampling.ts";
import { readError } from "./client_error.ts";
import type { SseEvent } from "./client_sse.ts";

/** One turn to send. */
export interface Turn {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** What to ask, and how to sample. */
export interface ChatInput extends Readonly<SamplingParams> {
  readonly model: string;
  readonly messages: readonly Turn[];
  readonly maxTokens?: number | undefined;
  readonly seed?: number | undefined;
  readonly stop?: readonly string[] | undefined;
  /** Goes on after tokens that end an answer; not every endpoint knows it. */
  readonly ignoreEos?: boolean | undefined;
  /** False: nothing of the prompt comes from earlier requests. */
  readonly usePrefixCache?: boolean | undefined;
}

/** Tokens of one answer. */
export interface ChatUsage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly totalTokens: number;
  readonly cachedTokens: number;
}

/** What an answer yields: progress and text in order, then one finish. */
export type ChatEvent =
  | { readonly type: "prefill"; readonly processedTokens: number; readonly totalTokens: number }
  | { readonly type: "text"; readonly text: string }
  | {
    readonly type: "finish";
    /** The model that answered, by its whole id. */
    readonly modelId: string;
    readonly finishReason: string;
    readonly usage: ChatUsage | undefined;
    /** As the engine measured it; undefined when the server does not say. */
    readonly tokensPerSecond: number | undefined;
    /** Where the time of decoding went, where the engine measures it. */
    readonly decode?: GenerationStats["decode"] | undefined;
  };

/** A question as the body of a streamed chat request. */
export function chatBody(input: ChatInput): object {
  return {
    model: input.model,
    messages: input.messages,
    stream: true,
    stream_options: { include_usage: true },
    max_completion_tokens: input.maxTokens,
    temperature: input.temperature,
    top_p: input.topP,
    top_k: input.topK,
    min_p: input.minP,
    repetition_penalty: input.repetitionPenalty,
    repetition_context_size: input.repetitionContextTokens,
    presence_penalty: input.presencePenalty,
    frequency_penalty: input.frequencyPenalty,
    seed: input.seed,
    stop: input.stop?.length ? input.stop : undefined,
    ignore_eos: input.ignoreEos,
    use_prefix_cache: input.usePrefixCache,
  };
}

/** Most of a wrong message that an error repeats. */
const SHOWN_CHARS_MAX = 60;

/** What we read of a chunk. */
interface Piece {
  readonly model?: string;
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
    readonly exo_finish_reason?: string;
  }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly total_tokens: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number };
  } | null;
}

/**
 * The messages of a chat stream as events. Reads any server of this dialect, ours or another.
 * @throws {AppError} the error in the stream, or `node_unreachable` when it ends without an end.
 */
export async function* readChat(events: AsyncIterable<SseEvent>): AsyncGenerator<ChatEvent> {
  let modelId = "";
  let finishReason: string | undefined;
  let usage: ChatUsage | undefined;
  let stats: EngineStats | undefined;
  for await (const event of events) {
    if (event.type === "comment") {
      const progress = prefillIn(event.comment);
      if (progress) yield progress;
      stats = statsIn(event.comment) ?? stats;
      continue;
    }
    if (event.data === "[DONE]") {
      if (finishReason === undefined) break;
      const { generation_tps: tokensPerSecond, decode } = stats ?? {};
      return yield { type: "finish", modelId, finishReason, usage, tokensPerSecond, decode };
    }
    const error = readError(event.data);
    if (error) throw error;
    const piece = pieceIn(event.data);
    const choice = piece.choices?.[0];
    modelId = piece.model ?? modelId;
    if (choice?.delta?.content) yield { type: "text", text: choice.delta.content };
    finishReason = choice?.exo_finish_reason ?? choice?.finish_reason ?? finishReason;
    if (piece.usage) usage = usageOf(piece.usage);
  }
  throw new AppError("node_unreachable", "Lost the node before the answer was complete", {
    hint: "exo status shows what runs",
  });
}

function usageOf(usage: NonNullable<Piece["usage"]>): ChatUsage {
  return {
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    totalTokens: usage.total_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
  };
}

function prefillIn(comment: string): ChatEvent | undefined {
  const found = after(comment, "prefill_progress ") as
    | { PrefillProgressChunk: { processed_tokens: number; total_tokens: number } }
    | undefined;
  if (!found) return undefined;
  const { processed_tokens, total_tokens } = found.PrefillProgressChunk;
  return { type: "prefill", processedTokens: processed_tokens, totalTokens: total_tokens };
}

/** A message of any endpoint, which may send what it likes. */
function pieceIn(data: string): Piece {
  const json = jsonIn(data);
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json;
  const found = data.slice(0, SHOWN_CHARS_MAX);
  const message = `Cannot read the answer: found "${found}" in its stream, a JSON object needed`;
  const hint = "check that the address is one of an OpenAI-compatible endpoint";
  throw new AppError("node_unreachable", message, { hint });
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What the engine measured. */
interface EngineStats {
  readonly generation_tps?: number;
  readonly decode?: GenerationStats["decode"];
}

function statsIn(comment: string): EngineStats | undefined {
  return after(comment, "generation_stats ") as EngineStats | undefined;
}

function after(comment: string, name: string): unknown {
  return comment.startsWith(name) ? jsonIn(comment.slice(name.length)) : undefined;
}
