import type { ErrorInfo } from "./errors.ts";

/** Longest reason, or line of diagnostics, that a node tells of a failure. */
export const REASON_CHARS_MAX = 2_000;

/** A text of so many characters at most; what is left out is shown by an ellipsis. */
export function shortened(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text;
  const kept = text.slice(0, charsMax - 1);
  // A pair of surrogates is one sign: half of it would be none.
  return `${/[\uD800-\uDBFF]$/.test(kept) ? kept.slice(0, -1) : kept}…`;
}

/** What another node says went wrong, to be told on: it may be as long as a message. */
export function shortError({ code, message, hint }: ErrorInfo): ErrorInfo {
  const info = { code, message: shortened(message, REASON_CHARS_MAX) };
  return hint === undefined ? info : { ...info, hint: shortened(hint, REASON_CHARS_MAX) };
}
