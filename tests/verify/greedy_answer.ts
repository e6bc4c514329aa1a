/** The likeliest tokens of a model, read from the API while they come. */
import assert from "node:assert/strict";
import { z } from "zod";
import { readSse } from "../../api/client_sse.ts";
import { within } from "../support/eventually.ts";

/** Tokens of an answer: as many as the spec compares (worker-engines.md, 12.3). */
export const ANSWER_TOKENS = 64;

const ANSWER_MS_MAX = 120_000;

/** One token of an answer. */
export interface SaidToken {
  /** What it is, exactly: as text, all parts of characters are alike. */
  readonly bytes: readonly number[];
  readonly logprob: number;
  /** By how much the likeliest token leads the second one, in nats. */
  readonly margin: number;
}

/** What we read of a piece of an answer: the last one has no tokens. */
const Piece = z.object({
  choices: z.array(z.object({
    logprobs: z.object({
      content: z.array(z.object({
        bytes: z.array(z.number()).min(1),
        logprob: z.number(),
        top_logprobs: z.array(z.object({ logprob: z.number() })).min(2),
      })),
    }).nullish(),
  })).length(1),
});

/** Answers to several prompts at once. */
export interface AnswersTogether {
  readonly answers: readonly (readonly SaidToken[])[];
  /** Which answer each token belongs to, in the order in which they arrived. */
  readonly arrivals: readonly number[];
}

/** Where a model is asked. */
interface Asked {
  readonly url: string;
  readonly model: string;
}

/** The answer to one prompt. */
export function answerOf(asked: Asked, prompt: string): Promise<SaidToken[]> {
  return within("an answer", Array.fromAsync(tokensOf(asked, prompt)), ANSWER_MS_MAX);
}

/** Asks all at once. */
export async function answersOf(
  asked: Asked,
  prompts: readonly string[],
): Promise<AnswersTogether> {
  const arrivals: number[] = [];
  const read = async (prompt: string, at: number) => {
    const answer: SaidToken[] = [];
    for await (const token of tokensOf(asked, prompt)) {
      answer.push(token);
      arrivals.push(at);
    }
    return answer;
  };
  return {
    answers: await within("answers", Promise.all(prompts.map(read)), ANSWER_MS_MAX),
    arrivals,
  };
}

/** How many tokens arrived while all of `count` answers were begun and none was over. */
export function tokensTogether(arrivals: readonly number[], count: number): number {
  const all = Array.from({ length: count }, (_, answer) => answer);
  const begun = Math.max(...all.map((answer) => arrivals.indexOf(answer)));
  const over = Math.min(...all.map((answer) => arrivals.lastIndexOf(answer)));
  return over - begun;
}

async function* tokensOf({ url, model }: Asked, prompt: string): AsyncGenerator<SaidToken> {
  const body = JSON.stringify({
    ...{ model, messages: [{ role: "user", content: prompt }], temperature: 0, stream: true },
    ...{ max_completion_tokens: ANSWER_TOKENS, ignore_eos: true },
    // What one request computed must not answer for the next one.
    ...{ logprobs: true, top_logprobs: 2, use_prefix_cache: false },
  });
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body });
  assert.ok(response.ok && response.body, `status ${response.status}`);
  for await (const event of readSse(response.body)) {
    if (event.type !== "data" || event.data === "[DONE]") continue;
    const [choice] = Piece.parse(JSON.parse(event.data)).choices;
    for (
      const { bytes, logprob, top_logprobs: [first, second] } of choice?.logprobs?.content ?? []
    ) {
      yield { bytes, logprob, margin: (first?.logprob ?? 0) - (second?.logprob ?? 0) };
    }
  }
}
