/** Prompts that one instance reads for another, beside the answers of a node alone. */
import { deepStrictEqual } from "node:assert/strict";
import type { Usage } from "../../core/chunk.ts";
import type { EngineCounts } from "../../core/engine_stats.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { KV_BLOCK_POSITIONS } from "../../ffi/mod.ts";
import {
  kinshipOf,
  prefillPrompt,
  type PrefillShape,
  sharedWords,
  strangePrompt,
} from "./prefill_prompts.ts";
import type { Say, Tally } from "./tally.ts";

/** Tokens of an answer, by whatever names them exactly. */
export type Tokens = readonly (number | string)[];

/** What an engine has read so far, and found in its prefix cache. */
export type Reads = Pick<EngineCounts, "prefillTokens" | "cachedTokens">;

/** The reads of the instance that is asked, and of the one that reads for it. */
export interface PairReads {
  readonly here: Reads;
  readonly there: Reads;
}

/** Two instances, one of which reads prompts for the other. */
export interface PrefillSubject {
  answer(payload: TextGenerationPayload): Promise<{ tokens: Tokens; usage: Usage }>;
  /** What both engines tell once they are at rest, after so many answers in all. */
  reads(answers: number): Promise<PairReads>;
}

/** Prompts in vain until one is read by the other instance. */
const WARM_UP_MAX = 8;

/**
 * Prompts until one is read by the other instance: the threads that carry its bytes start with the
 * first, and on a machine with other things to do too late for it. How many, and what was read.
 */
export async function warmUp(
  subject: PrefillSubject,
  shape: PrefillShape,
): Promise<{ asked: number; reads: PairReads }> {
  let before = await subject.reads(0);
  for (let asked = 1; asked <= WARM_UP_MAX; asked++) {
    const { usage } = await subject.answer(strangePrompt(asked, shape));
    const reads = await subject.reads(asked);
    if (reads.here.prefillTokens - before.here.prefillTokens < usage.promptTokens / 2) {
      return { asked, reads };
    }
    before = reads;
  }
  throw new Error(`None of ${WARM_UP_MAX} prompts was read by the other instance`);
}

/**
 * Each of the prompts gets the tokens that a node alone gives, and finds what it has in common with
 * earlier ones in the caches of both instances; most are read by the other.
 */
export async function comparePrompts(
  subject: PrefillSubject,
  alone: (payload: TextGenerationPayload) => Promise<Tokens>,
  { shape, say }: { readonly shape: PrefillShape; readonly say: Say },
): Promise<Tally> {
  const { asked, reads: before } = await warmUp(subject, shape);
  let [passed, failed, promptTokens, sharedTokens] = [0, 0, 0, 0];
  const count = (problem: string | undefined) => {
    if (problem === undefined) return passed++;
    say(problem);
    return failed++;
  };
  for (let n = 0; n < shape.prompts; n++) {
    const payload = prefillPrompt(n, shape);
    const { tokens, usage } = await subject.answer(payload);
    promptTokens += usage.promptTokens;
    if (kinshipOf(n) === "beginning") sharedTokens += usage.cachedTokens;
    const problem = wrongTokens(tokens, await alone(payload), shape) ?? missedHit(n, usage, shape);
    count(problem && `prompt ${n}: ${problem}`);
  }
  const after = await subject.reads(asked + shape.prompts);
  const since = (who: keyof PairReads, what: keyof Reads) => after[who][what] - before[who][what];
  const [here, there] = [since("here", "prefillTokens"), since("there", "prefillTokens")];
  const [hereHit, thereHit] = [since("here", "cachedTokens"), since("there", "cachedTokens")];
  say(`${promptTokens} prompt tokens: ${here} read where they were asked, ${there} elsewhere`);
  say(`found in caches: ${hereHit} where they were asked, ${thereHit} elsewhere`);
  const isShared = there > promptTokens / 2 && here < promptTokens / 4;
  count(isShared ? undefined : "too few were read elsewhere");
  // What of a prompt one instance has kept, the other had read for it.
  const isHit = sharedTokens > 0 && thereHit >= sharedTokens;
  count(isHit ? undefined : `of ${sharedTokens} shared tokens, too few were in the other's cache`);
  return { passed, failed };
}

function wrongTokens(
  found: Tokens,
  wanted: Tokens,
  { answerTokens }: PrefillShape,
): string | undefined {
  // Special tokens are not told.
  if (wanted.length < answerTokens / 2) return `a node alone told ${wanted.length} tokens`;
  try {
    deepStrictEqual(found, wanted);
    return undefined;
  } catch {
    return `other tokens than of one node: ${JSON.stringify([found, wanted])}`;
  }
}

/** What is wrong where less was found in the cache than was read before, or more. */
function missedHit(
  n: number,
  { promptTokens, cachedTokens }: Usage,
  { words }: PrefillShape,
): string | undefined {
  // Keys and values are kept by blocks.
  const least = {
    none: 0,
    beginning: sharedWords(words) - KV_BLOCK_POSITIONS,
    all: promptTokens - 1 - KV_BLOCK_POSITIONS,
  }[kinshipOf(n)];
  const most = kinshipOf(n) === "all" ? promptTokens : promptTokens / 2;
  if (cachedTokens >= least && cachedTokens <= most) return undefined;
  return `${cachedTokens} of ${promptTokens} tokens cached, ${least} to ${most} expected`;
}
