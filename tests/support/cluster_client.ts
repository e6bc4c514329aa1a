import type { ApiClient } from "../../api/client.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { within } from "./eventually.ts";

/** The end of an answer whose client hung up. */
export const LEFT = "left";

/** What a client got of one request. */
export interface Answer {
  readonly text: string;
  readonly pieces: number;
  /** Why it ended, or the error that it ended with. */
  readonly end: string;
  readonly isWhole: boolean;
  /** Of the error that it ended with. */
  readonly errorCode: ErrorCode | undefined;
  readonly tookMs: number;
  /** The longest that nothing came, after the first piece. */
  readonly longestGapMs: number;
}

/** What to ask, and who hears of each piece. */
export interface Question {
  readonly model: string;
  readonly content: string;
  readonly maxTokens?: number;
  /** The client hangs up after so many pieces. */
  readonly leaveAfter?: number | undefined;
  readonly onPiece?: (pieces: number) => void;
}

/** One streamed answer, to whatever its end is. @throws when there is none after `limitMs`. */
export function answerOf(
  client: ApiClient,
  question: Question,
  limitMs: number,
): Promise<Answer> {
  return within(`an answer from ${client.url}`, read(client, question), limitMs);
}

async function read(client: ApiClient, question: Question): Promise<Answer> {
  const { model, content, maxTokens, leaveAfter = Infinity, onPiece } = question;
  const startedAt = performance.now();
  let [text, pieces, longestGapMs, lastAt] = ["", 0, 0, startedAt];
  const ended = (end: string, isWhole: boolean, errorCode?: ErrorCode): Answer => {
    const tookMs = performance.now() - startedAt;
    return { text, pieces, end, isWhole, errorCode, tookMs, longestGapMs };
  };
  try {
    const messages = [{ role: "user" as const, content }];
    for await (const event of client.chat({ model, messages, maxTokens, seed: 1 })) {
      if (event.type === "finish") return ended(event.finishReason, true);
      if (event.type !== "text") continue;
      const now = performance.now();
      if (pieces > 0) longestGapMs = Math.max(longestGapMs, now - lastAt);
      lastAt = now;
      text += event.text;
      pieces++;
      onPiece?.(pieces);
      if (pieces >= leaveAfter) return ended(LEFT, false);
    }
    return ended("nothing", false);
  } catch (error) {
    return ended(String(error), false, error instanceof AppError ? error.code : undefined);
  }
}
