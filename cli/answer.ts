import type { ChatEvent, ChatUsage } from "../api/client_chat.ts";
import { AppError } from "../core/errors.ts";
import type { Output } from "./output.ts";

/** A whole answer, and how fast it came. */
export interface Answer {
  readonly modelId: string;
  readonly text: string;
  readonly finishReason: string;
  readonly usage: ChatUsage | null;
  readonly ttftMs: number | null;
  readonly tokensPerSecond: number | null;
}

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
    const tokensPerSecond = event.tokensPerSecond ?? null;
    return { modelId, text, finishReason, usage: usage ?? null, ttftMs, tokensPerSecond };
  }
  throw new AppError("node_unreachable", "Lost the node before the answer was complete");
}
