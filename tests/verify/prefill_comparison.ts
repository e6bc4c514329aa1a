/** Prompts that one instance reads for another, beside the answers of a node alone. */
import { deepStrictEqual } from "node:assert/strict";
import type { Usage } from "../../core/chunk.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import { KV_BLOCK_POSITIONS } from "../../ffi/mod.ts";
import {
  kinshipOf,
  prefillPrompt,
  type PrefillShape,
  sharedWords,
  strangePrompt,
} from "./prefill_prompts.ts";
import { cameOf, type PairReads, readsAfter, readsSince } from "./prefill_reads.ts";
import type { Say, Tally } from "./tally.ts";

/** Tokens of an answer, by whatever names them exactly. */
export type Tokens = readonly (number | string)[];

/** Two instances, one of which reads prompts for the other. */
export interface PrefillSubject {
  answer(payload: TextGenerationPayload): Promise<{ tokens: Tokens; usage: Usage }>;
  /** What both engines have told; it may lack what they did last. */
  reads(): PairReads | Promise<PairReads>;
}

/** Prompts in vain until one is read by the other instance. */
const WARM_UP_MAX = 8;

/**
 * Prompts until one is read by the other instance: the threads that carry its bytes start with the
 * first, and on a machine with other things to do too late for it. What was read by then.
 */
export async function warmUp(
  subject: PrefillSubject,
  shape: PrefillShape,
): Promise<PairReads> {
  const look = () => subject.reads();
  let before = await look();
  for (let asked = 1; asked <= WARM_UP_MAX; asked++) {
    const { usage } = await subject.answer(strangePrompt(asked, shape));
    const reads = await readsAfter(look, before, usage);
    const { prefillTokens } = readsSince(before.here, reads.here);
    if (prefillTokens < usage.promptTokens / 2) return reads;
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
  const look = () => subject.reads();
  const before = await warmUp(subject, shape);
  let after = before;
  let [passed, failed, promptTokens, sharedTokens] = [0, 0, 0, 0];
  // Whether the other has read all of the family so far that is kept here.
  let isShared = false;
  const count = (problem: string | undefined) => {
    if (problem === undefined) return passed++;
    say(problem);
    return failed++;
  };
  for (let n = 0; n < shape.prompts; n++) {
    const payload = prefillPrompt(n, shape);
    const { tokens, usage } = await subject.answer(payload);
    const reads = await readsAfter(look, after, usage);
    const here = readsSince(after.here, reads.here);
    after = reads;
    promptTokens += usage.promptTokens;
    // More than prompts of a family have in common; a repeated one is kept as a whole, by both.
    const hasCome = here.cachedTokens + cameOf(here) > usage.promptTokens / 2;
    // It is asked for all, and finds what it had read before.
    if (kinshipOf(n) === "beginning" && isShared && cameOf(here) > 0) {
      sharedTokens += here.cachedTokens;
    }
    isShared = kinshipOf(n) === "none" ? hasCome : isShared && hasCome;
    const problem = wrongTokens(tokens, await alone(payload), shape) ?? missedHit(n, usage, shape);
    count(problem && `prompt ${n}: ${problem}`);
  }
  const { prefillTokens: here, cachedTokens: hereHit } = readsSince(before.here, after.here);
  const { prefillTokens: there, cachedTokens: thereHit } = readsSince(before.there, after.there);
  say(`${promptTokens} prompt tokens: ${here} read where they were asked, ${there} elsewhere`);
  say(
    `found in caches: ${hereHit} where they were asked, ${thereHit} elsewhere, ` +
      `${sharedTokens} needed there`,
  );
  const isReadThere = there > promptTokens / 2 && here < promptTokens / 4;
  count(isReadThere ? undefined : "too few were read elsewhere");
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
