import { z } from "zod";
import type { ChatEvent } from "../api/client_chat.ts";
import { AppError } from "../core/errors.ts";
import type { Output } from "./output.ts";

const count = z.number().int();

/** A whole answer, and how fast it came. */
export const Answer = z.strictObject({
  modelId: z.string().describe("Whole id of the model that answered"),
  text: z.string().describe("The answer"),
  finishReason: z.string().describe("`stop`, `length`, or what another endpoint says"),
  usage: z.strictObject({
    promptTokens: count.describe("Tokens of the prompt, chat template included"),
    completionTokens: count.describe("Tokens of the answer"),
    totalTokens: count.describe("Both together"),
    cachedTokens: count.describe("Prompt tokens that were taken from a cache"),
  }).nullable().describe("Null where the endpoint does not count"),
  ttftMs: z.number().nullable()
    .describe("Milliseconds from the question to the first text; null without text"),
  tokensPerSecond: z.number().nullable()
    .describe("Speed after the first token, as the engine measured it; null of fewer than two"),
});
export type Answer = z.infer<typeof Answer>;

/**
 * Shows an answer while it is made, and sums it up.
 * @throws {AppError} what ended it early; the text so far is shown.
 */
export async function showAnswer(events: AsyncIterable<ChatEvent>, out: Output): Promise<Answer> {
  const startedAt = performance.now();
  let text = "";
  let ttftMs: number | null = null;
  for await (const event of events) {
    if (event.type === "prefill") {
      out.progress({
        label: "Reading the prompt",
        done: event.processedTokens,
        total: event.totalTokens,
      });
    }
    if (event.type === "text") {
      ttftMs ??= performance.now() - startedAt;
      text += event.text;
      out.text(event.text);
    }
    if (event.type !== "finish") continue;
    if (!text.endsWith("\n")) out.text("\n");
    const { modelId, finishReason, usage } = event;
    // The engine says 0 where there is nothing to measure.
    const tokensPerSecond = event.tokensPerSecond || null;
    return { modelId, text, finishReason, usage: usage ?? null, ttftMs, tokensPerSecond };
  }
  throw new AppError("node_unreachable", "Lost the node before the answer was complete");
}
