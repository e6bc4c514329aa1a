import type { Chunk, FinishReason, GenerationStats, Usage } from "../../core/chunk.ts";
import { AppError, type ErrorInfo, toAppError } from "../../core/errors.ts";
import type { ModelId } from "../../core/ids.ts";
import type { Millis } from "../../core/units.ts";
import { streamErrorBody } from "../errors.ts";
import type { SseMessage } from "../sse.ts";

export { type ChatRequest, decode } from "./openai_chat_request.ts";

/** What every piece of one answer repeats. */
export interface Answer {
  readonly id: string;
  readonly modelId: ModelId;
  readonly createdAt: Millis;
  /** Version of exo; a client sees that answers may differ when it changes. */
  readonly version: string;
}

const DONE: SseMessage = { data: "[DONE]" };

/**
 * Chunks as the stream of a chat. Source: OpenAI API reference, chat completion chunks (2025).
 * Usage comes once: in the last chunk, or in one of its own for those who asked for that.
 */
export async function* encodeStream(
  chunks: AsyncIterable<Chunk>,
  answer: Answer,
  { includeUsage }: { includeUsage: boolean },
): AsyncGenerator<SseMessage> {
  yield piece(answer, { delta: { role: "assistant" } });
  try {
    for await (const chunk of chunks) {
      if (chunk.type === "PrefillProgress") yield prefillProgress(answer.modelId, chunk);
      if (chunk.type === "Token" && chunk.text !== "") {
        yield piece(answer, { delta: { content: chunk.text } });
      }
      if (chunk.type === "Error") return yield* failure(chunk.error);
      if (chunk.type !== "Finish") continue;
      const usage = { usage: usageOf(chunk.usage) };
      const end = { delta: {}, ...finishOf(chunk.finishReason) };
      yield piece(answer, end, includeUsage ? {} : usage);
      if (includeUsage) yield json({ ...headOf(answer, "chunk"), choices: [], ...usage });
      yield { comment: `generation_stats ${JSON.stringify(statsOf(chunk.usage, chunk.stats))}` };
      return yield DONE;
    }
    yield* failure(endedEarly().toInfo());
  } catch (error) {
    // A defect of ours; the client still gets an end that it can read.
    yield* failure(toAppError(error).toInfo());
  }
}

/**
 * Chunks as one reply.
 * @throws {AppError} the error that the generation ended with; nothing has been sent then.
 */
export async function encode(chunks: AsyncIterable<Chunk>, answer: Answer): Promise<object> {
  let content = "";
  for await (const chunk of chunks) {
    if (chunk.type === "Token") content += chunk.text;
    if (chunk.type === "Error") throw AppError.from(chunk.error);
    if (chunk.type !== "Finish") continue;
    const message = { role: "assistant", content };
    return {
      ...headOf(answer, "whole"),
      choices: [{ index: 0, message, ...finishOf(chunk.finishReason) }],
      usage: usageOf(chunk.usage),
      generation_stats: statsOf(chunk.usage, chunk.stats),
    };
  }
  throw endedEarly();
}

function headOf({ id, modelId, createdAt, version }: Answer, kind: "chunk" | "whole") {
  return {
    id,
    object: kind === "chunk" ? "chat.completion.chunk" : "chat.completion",
    created: Math.floor(createdAt / 1000),
    model: modelId,
    system_fingerprint: `exo-${version}`,
  };
}

function piece(answer: Answer, choice: object, extra: object = {}): SseMessage {
  return json({
    ...headOf(answer, "chunk"),
    choices: [{ index: 0, ...choice }],
    ...extra,
  });
}

function json(value: object): SseMessage {
  return { data: JSON.stringify(value) };
}

/** The dialect has no word for a cancelled answer: it stopped, and a field of ours says why. */
function finishOf(reason: FinishReason): object {
  return reason === "cancelled"
    ? { finish_reason: "stop", exo_finish_reason: "cancelled" }
    : { finish_reason: reason };
}

function* failure(error: ErrorInfo): Generator<SseMessage> {
  yield json(streamErrorBody(error));
  yield DONE;
}

function endedEarly(): AppError {
  return new AppError("instance_removed", "instance was removed while generating", {
    hint: "place the model again, then ask again: exo instance create MODEL",
  });
}

function prefillProgress(
  modelId: ModelId,
  { processedTokens, totalTokens }: Extract<Chunk, { type: "PrefillProgress" }>,
): SseMessage {
  const progress = {
    model: modelId,
    processed_tokens: processedTokens,
    total_tokens: totalTokens,
  };
  return { comment: `prefill_progress ${JSON.stringify({ PrefillProgressChunk: progress })}` };
}

function usageOf({ promptTokens, completionTokens, cachedTokens }: Usage): object {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 0,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0,
    },
  };
}

function statsOf(usage: Usage, stats: GenerationStats): object {
  const { promptTokens, cachedTokens } = usage;
  // The last token of a prompt is always computed, since the first answer comes out of it.
  const isExact = cachedTokens > 0 && cachedTokens >= promptTokens - 1;
  return {
    prompt_tps: stats.promptTokensPerSecond,
    generation_tps: stats.generationTokensPerSecond,
    prompt_tokens: promptTokens,
    generation_tokens: usage.completionTokens,
    peak_memory_usage: { inBytes: stats.peakMemoryBytes },
    prefix_cache_hit: cachedTokens === 0 ? "none" : isExact ? "exact" : "partial",
    ...(stats.decode ? { decode: stats.decode } : {}),
  };
}
