import type { TokenLogprob, TokenLogprobs } from "../../core/chunk.ts";

/** How likely each token was. Source: OpenAI API reference, chat completions (2025). */
export function encodeLogprobs(tokens: readonly TokenLogprobs[]): object {
  return {
    content: tokens.map(({ top, ...chosen }) => ({
      ...encodeToken(chosen),
      top_logprobs: top.map(encodeToken),
    })),
  };
}

/** Tokens may be parts of characters: the bytes are exact, the text is what they show as. */
function encodeToken({ bytes, logprob }: TokenLogprob) {
  return { token: new TextDecoder().decode(new Uint8Array(bytes)), logprob, bytes };
}
