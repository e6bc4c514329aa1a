/** Flags of the benchmarks, and what is said of one that cannot be used. */
import { AppError } from "../core/errors.ts";

const NUMBER_MAX = 1_000_000;

/** What `parse` makes of the arguments. @throws {AppError} `usage` with this hint. */
export function readFlags<T>(parse: () => T, hint: string): T {
  try {
    return parse();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new AppError("usage", `Cannot read the flags: ${reason}`, { hint, cause });
  }
}

/** The choice that a flag names. @throws {AppError} `usage` with this hint. */
export function choiceFlag<T extends string>(
  flag: string,
  word: string,
  { choices, hint }: { readonly choices: readonly T[]; readonly hint: string },
): T {
  const found = choices.find((one) => one === word);
  if (found !== undefined) return found;
  const needed = `${choices.join(" or ")} needed`;
  throw new AppError("usage", `Cannot use --${flag} "${word}": ${needed}`, { hint });
}

/** The numbers from 1 on of a flag such as `1,4`, each once. @throws {AppError} `usage`. */
export function numberListFlag(flag: string, words: string): number[] {
  return [...new Set(words.split(",").map((one) => numberFlag(flag, one, 1)))];
}

/** The whole number of a flag, `min` at least. @throws {AppError} `usage`. */
export function numberFlag(flag: string, word: string, min: number): number {
  const value = /^\d+$/.test(word) ? Number(word) : NaN;
  if (value >= min && value <= NUMBER_MAX) return value;
  const needed = `a whole number from ${min} to ${NUMBER_MAX} needed`;
  throw new AppError("usage", `Cannot use --${flag} "${word}": ${needed}`, {
    hint: `as in --${flag} ${Math.max(min, 4)}`,
  });
}
