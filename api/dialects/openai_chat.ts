import type { Chunk, FinishReason, TokenLogprobs } from "../../core/chunk.ts";
import { AppError, type ErrorInfo, toAppError } from "../../core/errors.ts";
import type { ModelId } from "../../core/ids.ts";
import type { Millis } from "../../core/units.ts";
import type { ChoiceChunk } from "../choices.ts";
import { streamErrorBody } from "../errors.ts";
import type { SseMessage } from "../sse.ts";
import { encodeLogprobs } from "./openai_logprobs.ts";
import { countsOf, encodeStats, encodeUsage, type Finish } from "./openai_usage.ts";

export { type ChatRequest, decode } from "./openai_chat_request.ts";

/** What every piece of one reply repeats. */
export interface Answer {
  readonly id: string;
  readonly modelId: ModelId;
  readonly createdAt: Millis;
  /** Version of exo; a client sees that answers may differ when it changes. */
  readonly version: string;
  /** Answers that were asked for. */
  readonly choices: number;
}

type Chunks = AsyncIterable<ChoiceChunk>;

const DONE: SseMessage = { data: "[DONE]" };

/**
 * Chunks as the stream of a chat. Source: OpenAI API reference, chat completion chunks (2025).
 * Usage comes once: in the last chunk, or in one of its own for those who asked for that.
 */
export async function* encodeStream(
  chunks: Chunks,
  answer: Answer,
  { includeUsage }: { includeUsage: boolean },
): AsyncGenerator<SseMessage> {
  for (let index = 0; index < answer.choices; index++) {
    yield piece(answer, { index, delta: { role: "assistant" } });
  }
  const ends: Finish[] = [];
  try {
    for await (const { index, chunk } of chunks) {
      // The prompt is the same for all: the first one tells how far it is read.
      if (chunk.type === "PrefillProgress" && index === 0) {
        yield prefillProgress(answer.modelId, chunk);
      }
      if (chunk.type === "Token" && (chunk.text !== "" || chunk.logprobs?.length)) {
        yield piece(answer, { index, delta: { content: chunk.text }, ...likely(chunk.logprobs) });
      }
      if (chunk.type === "Error") return yield* failure(chunk.error);
      if (chunk.type !== "Finish") continue;
      const counts = countsOf([chunk, ...ends]);
      const usage = { usage: encodeUsage(counts.usage) };
      const isLast = ends.push(chunk) === answer.choices;
      const end = { index, delta: {}, ...finishOf(chunk.finishReason) };
      yield piece(answer, end, isLast && !includeUsage ? usage : {});
      if (!isLast) continue;
      if (includeUsage) yield json({ ...headOf(answer, "chunk"), choices: [], ...usage });
      yield { comment: `generation_stats ${JSON.stringify(encodeStats(counts))}` };
      return yield DONE;
    }
    yield* failure(endedEarly().toInfo());
  } catch (error) {
    // A defect of ours; the client still gets an end that it can read.
    yield* failure(toAppError(error).toInfo());
  }
}

/** One answer as far as it has come. */
interface Choice {
  content: string;
  logprobs: TokenLogprobs[] | undefined;
  end: Finish | undefined;
}

/**
 * Chunks as one reply.
 * @throws {AppError} the error that a generation ended with; nothing has been sent then.
 */
export async function encode(chunks: Chunks, answer: Answer): Promise<object> {
  const choices = Array.from(
    { length: answer.choices },
    (): Choice => ({ content: "", logprobs: undefined, end: undefined }),
  );
  for await (const { index, chunk } of chunks) {
    const choice = choices[index];
    if (choice === undefined) continue;
    if (chunk.type === "Token") {
      choice.content += chunk.text;
      if (chunk.logprobs) (choice.logprobs ??= []).push(...chunk.logprobs);
    }
    if (chunk.type === "Error") throw AppError.from(chunk.error);
    if (chunk.type !== "Finish") continue;
    choice.end = chunk;
    const [first, ...rest] = choices.flatMap(({ end }) => end ?? []);
    if (first && rest.length + 1 === choices.length) {
      return wholeOf(choices, answer, [first, ...rest]);
    }
  }
  throw endedEarly();
}

function wholeOf(choices: readonly Choice[], answer: Answer, ends: [Finish, ...Finish[]]): object {
  const counts = countsOf(ends);
  return {
    ...headOf(answer, "whole"),
    choices: choices.map(({ content, logprobs, end }, index) => ({
      index,
      message: { role: "assistant", content },
      ...likely(logprobs),
      ...(end ? finishOf(end.finishReason) : {}),
    })),
    usage: encodeUsage(counts.usage),
    generation_stats: encodeStats(counts),
  };
}

function likely(logprobs: readonly TokenLogprobs[] | undefined): object {
  return logprobs === undefined ? {} : { logprobs: encodeLogprobs(logprobs) };
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
  return json({ ...headOf(answer, "chunk"), choices: [choice], ...extra });
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
