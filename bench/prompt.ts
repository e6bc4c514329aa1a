import { AppError } from "../core/errors.ts";

/** Short words that nearly every vocabulary holds as one token each. */
const WORDS = (
  "the time of year when people work in their house and then go out for a long day with some " +
  "good old friends who know how to make any small part of life feel new again"
).split(" ");

/** Ends long prompts: answers to it run on until they are cut. */
const CLOSING = "Now write a very long story about this".split(" ");

/** Words from which on there is room for the closing. */
const CLOSING_WORDS_MIN = 14;

/** Letters ahead of the words, which make each prompt a new one. */
const SERIAL_LETTERS = 3;
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** Most questions for one size: each halves what is left, and no context has 2^24 tokens. */
const QUESTIONS_MAX = 48;

/** How many words make a prompt of the size that was asked for. */
export interface PromptSize {
  readonly askedTokens: number;
  readonly words: number;
  /** What the endpoint counted; differs from what was asked where no number of words fits. */
  readonly reachedTokens: number;
}

/**
 * A text of `words` words, always the same. Its first letters spell `serial`, so that no cache of
 * prefixes knows it from the run before; prompts of one length differ in nothing else.
 */
export function promptText(words: number, serial: number): string {
  const body = Array.from({ length: words }, (_, index) => wordAt(index, serial));
  const hasClosing = words >= CLOSING_WORDS_MIN;
  if (hasClosing) body.splice(-CLOSING.length, CLOSING.length, ...CLOSING);
  return body.join(" ");
}

function wordAt(index: number, serial: number): string {
  if (index >= SERIAL_LETTERS) return WORDS[(index - SERIAL_LETTERS) % WORDS.length] ?? "";
  return ALPHABET[Math.floor(serial / ALPHABET.length ** index) % ALPHABET.length] ?? "";
}

/**
 * Finds the number of words whose prompt has `askedTokens` tokens, chat template included, by
 * asking `count`; the nearest one where none has. Tries a guess along the line between the two
 * nearest counts and the middle between them in turn, so that it is quick and always ends.
 */
export async function sizePrompt(
  askedTokens: number,
  count: (words: number) => Promise<number>,
): Promise<PromptSize> {
  let low = { words: 1, tokens: await count(1) };
  let high: typeof low | undefined;
  for (let asked = 1; asked < QUESTIONS_MAX && low.tokens < askedTokens; asked++) {
    if (high && high.words - low.words <= 1) break;
    const words = high
      ? between(low, high, asked % 2 === 0 ? undefined : askedTokens)
      : low.words + askedTokens - low.tokens;
    const found = { words, tokens: await count(words) };
    if (found.tokens === askedTokens) return { askedTokens, words, reachedTokens: askedTokens };
    if (found.tokens > askedTokens) high = found;
    else if (found.tokens > low.tokens) low = found;
    else throw cannotSize(askedTokens, found);
  }
  const nearest = high && high.tokens - askedTokens <= askedTokens - low.tokens ? high : low;
  return { askedTokens, words: nearest.words, reachedTokens: nearest.tokens };
}

interface Counted {
  readonly words: number;
  readonly tokens: number;
}

/** A number of words strictly between two, on their line at `target` or in their middle. */
function between(low: Counted, high: Counted, target: number | undefined): number {
  const share = target === undefined ? 0.5 : (target - low.tokens) / (high.tokens - low.tokens);
  const words = low.words + Math.round(share * (high.words - low.words));
  return Math.min(Math.max(words, low.words + 1), high.words - 1);
}

function cannotSize(askedTokens: number, { words, tokens }: Counted): AppError {
  const found = `the endpoint counts ${tokens} for ${words} words`;
  return new AppError(
    "invalid_request",
    `Cannot make a prompt of ${askedTokens} tokens: ${found}, more needed for more words`,
    { hint: "the endpoint must report usage.prompt_tokens of the whole prompt" },
  );
}
