/** The likeliest tokens of a model, read from the API while they come. */
import assert from "node:assert/strict";
import { z } from "zod";
import { readSse } from "../../api/client_sse.ts";
import { TOP_LOGPROBS_MAX } from "../../core/task.ts";
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
  /** Logprobs of the likeliest tokens, each by its bytes. */
  readonly top: ReadonlyMap<string, number>;
}

/** What we read of a piece of an answer: the last one has no tokens. */
const Piece = z.object({
  choices: z.array(z.object({
    logprobs: z.object({
      content: z.array(z.object({
        bytes: z.array(z.number()).min(1),
        logprob: z.number(),
        top_logprobs: z.array(z.object({ bytes: z.array(z.number()), logprob: z.number() }))
          .length(TOP_LOGPROBS_MAX),
      })),
    }).nullish(),
  })).length(1),
});

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
export function answersOf(asked: Asked, prompts: readonly string[]): Promise<SaidToken[][]> {
  return Promise.all(prompts.map((prompt) => answerOf(asked, prompt)));
}

async function* tokensOf({ url, model }: Asked, prompt: string): AsyncGenerator<SaidToken> {
  const body = JSON.stringify({
    ...{ model, messages: [{ role: "user", content: prompt }], temperature: 0, stream: true },
    ...{ max_completion_tokens: ANSWER_TOKENS, ignore_eos: true },
    // What one request computed must not answer for the next one.
    ...{ logprobs: true, top_logprobs: TOP_LOGPROBS_MAX, use_prefix_cache: false },
  });
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body });
  assert.ok(response.ok && response.body, `status ${response.status}`);
  for await (const event of readSse(response.body)) {
    if (event.type !== "data" || event.data === "[DONE]") continue;
    const [choice] = Piece.parse(JSON.parse(event.data)).choices;
    for (const { bytes, logprob, top_logprobs } of choice?.logprobs?.content ?? []) {
      const [first, second] = top_logprobs;
      const top = new Map(top_logprobs.map((other) => [other.bytes.join(), other.logprob]));
      assert.equal(top.size, top_logprobs.length, "bytes tell the likeliest tokens apart");
      yield { bytes, logprob, margin: (first?.logprob ?? 0) - (second?.logprob ?? 0), top };
    }
  }
}
