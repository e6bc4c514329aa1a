import { AppError } from "../../core/errors.ts";
import { resolveSampling } from "../../core/sampling.ts";
import { type AnswerTokenizer, isFinish } from "./answer.ts";
import { runBatch, type StepRunner } from "./batch_step.ts";
import { Generation } from "./generation.ts";
import type { PrefillPace } from "./prefill_pace.ts";

/** Tokens that the warm-up reads and generates. */
const WARMUP_TOKENS = 2;

/** Tokens of a second prompt, by which the pace of prefill is learnt, and the time that it may take. */
const PACE_TOKENS = 64;
const PACE_MS = 250;

/** What is made warm. */
export interface WarmUpParts extends StepRunner {
  readonly tokenizer: AnswerTokenizer;
  readonly prefillChunkTokens: number;
}

/** Two throw-away generations: all is warm then, and the pace of prefill known. */
export function warmUp(parts: WarmUpParts, pace: PrefillPace): void {
  const { decoder, now, tokenizer, prefillChunkTokens } = parts;
  const startedAt = now();
  for (const length of [WARMUP_TOKENS, PACE_TOKENS]) {
    const promptIds = Array.from({ length }, () => 0);
    using generation = new Generation({
      ...{ promptIds, sampling: resolveSampling({ temperature: 0 }), seed: 0n },
      ...{ maxTokens: WARMUP_TOKENS, stop: [], eosIds: new Set() },
    }, { tokenizer, submittedAt: startedAt });
    generation.start(decoder.makeCache(), startedAt);
    const isOver = () => length === PACE_TOKENS && now() - startedAt > PACE_MS;
    for (let isDone = false; !isDone && !isOver();) {
      const limit = Math.min(generation.pendingTokens, prefillChunkTokens);
      const tokens = Math.min(limit, pace.next(limit));
      const step = runBatch([{ generation, tokens }], parts);
      pace.measured(tokens, step.endedAt - step.startedAt);
      const [chunks] = step.results;
      isDone = !chunks || chunks instanceof AppError || isOver() || chunks.some(isFinish);
    }
  }
}
