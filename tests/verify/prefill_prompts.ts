/** Prompts of families: some begin as one before did, and some repeat it. */
import type { TextGenerationPayload } from "../../core/task.ts";
import { Random } from "../support/random.ts";
import { ask } from "../support/test_node.ts";

/** What prompts are made of. */
export interface PrefillShape {
  readonly modelPath: string;
  readonly prompts: number;
  /** Words of a prompt of which over 1,000 tokens come. */
  readonly words: number;
  readonly answerTokens: number;
}

/** How often prompts begin as one before did, and how often that is all of it. */
const FAMILY = 5;

/** Share of a prompt that a family has in common. */
const SHARED_SHARE = 0.1;

/** What a prompt has in common with those before it. */
export type Kinship = "none" | "all" | "beginning";

/** Families that no comparison reaches: what is asked beside one has nothing in common with it. */
const STRANGERS = 1_000_000;

const WORDS = "river stone wind over seven light and mountain sleeps under old blue ship".split(
  " ",
);

/** What prompt `n` has in common with prompts before it. */
export function kinshipOf(n: number): Kinship {
  return (["none", "all"] as const)[n % FAMILY] ?? "beginning";
}

/** Prompt `n`: of each five, one is new, one repeats it, and the others begin as it does. */
export function prefillPrompt(
  n: number,
  { words, answerTokens }: PrefillShape,
): TextGenerationPayload {
  const family = Math.floor(n / FAMILY);
  const member = kinshipOf(n) === "all" ? 0 : n % FAMILY;
  const random = (salt: number) => new Random(1 + family * 64 + salt);
  const some = (count: number, from: Random) =>
    Array.from({ length: count }, () => from.pick(WORDS)).join(" ");
  const text = `${some(sharedWords(words), random(0))} ` +
    some(words - sharedWords(words), random(1 + member));
  const sampling = n % 2 === 0 ? { temperature: 0 } : { temperature: 0.8, topP: 0.9 };
  // A model that has nothing to say to such words would end after a token, and prove little.
  const options = { maxTokens: answerTokens, ignoreEos: true };
  return ask(`${family} ${text}`, { ...options, sampling, seed: String(n + 1) });
}

/** The first prompt of a family of its own. */
export function strangePrompt(n: number, shape: PrefillShape): TextGenerationPayload {
  return prefillPrompt((STRANGERS + n) * FAMILY, shape);
}

/** Words that a family has in common; each is a token at least. */
export function sharedWords(words: number): number {
  return Math.floor(words * SHARED_SHARE);
}
