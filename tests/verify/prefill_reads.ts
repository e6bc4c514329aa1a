/** What two instances have read, one of which reads prompts for the other, by their statistics. */
import type { Usage } from "../../core/chunk.ts";
import type { EngineCounts } from "../../core/engine_stats.ts";
import { eventually } from "../support/eventually.ts";

/** What an engine has read so far, found in its prefix cache, and said. */
export type Reads = Pick<
  EngineCounts,
  "promptTokens" | "prefillTokens" | "cachedTokens" | "generatedTokens"
>;

/** The reads of the instance that is asked, and of the one that reads for it. */
export interface PairReads {
  readonly here: Reads;
  readonly there: Reads;
}

/** Until statistics tell of what is done: engines at work tell once a second, and at rest at once. */
const TOLD_MS_MAX = 60_000;

/** What was read from one look at the statistics to a later one. */
export function readsSince(before: Reads, now: Reads): Reads {
  return {
    promptTokens: now.promptTokens - before.promptTokens,
    prefillTokens: now.prefillTokens - before.prefillTokens,
    cachedTokens: now.cachedTokens - before.cachedTokens,
    generatedTokens: now.generatedTokens - before.generatedTokens,
  };
}

/** Tokens of prompts that are neither computed nor found here: their keys and values came. */
export function cameOf({ promptTokens, prefillTokens, cachedTokens }: Reads): number {
  return promptTokens - prefillTokens - cachedTokens;
}

/** Whether statistics contain all that an engine did for an answer: what it says comes last. */
export function hasToldAnswer(
  before: Reads,
  now: Reads,
  { completionTokens }: Pick<Usage, "completionTokens">,
): boolean {
  return readsSince(before, now).generatedTokens >= completionTokens;
}

/** Whether they contain what the other read for it: all in front of the last token that came. */
export function hasToldReads(before: PairReads, now: PairReads): boolean {
  const [here, there] = [readsSince(before.here, now.here), readsSince(before.there, now.there)];
  const came = cameOf(here);
  return came <= 0 || there.prefillTokens + there.cachedTokens >= here.cachedTokens + came;
}

/** What both tell once it contains all that was done for an answer since they told `before`. */
export async function readsAfter(
  look: () => PairReads | Promise<PairReads>,
  before: PairReads,
  usage: Pick<Usage, "completionTokens">,
): Promise<PairReads> {
  let now = before;
  await eventually("the engines have told what they did for an answer", async () => {
    now = await look();
    return hasToldAnswer(before.here, now.here, usage) && hasToldReads(before, now);
  }, TOLD_MS_MAX);
  return now;
}
