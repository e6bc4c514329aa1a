import { AppError } from "../../core/errors.ts";
import { promptTooLong } from "../refusals.ts";
import type { TextTokenizer } from "./tokenizer.ts";

/** Characters for each token of the context up to which a prompt is read whole at once. */
const CHARS_PER_TOKEN_TRUSTED = 8;

/** Pieces by which a longer one is counted, and tokens that a cut may add. */
const PIECE_CHARS = 16_384;
const PIECE_SLACK_TOKENS = 16;

/**
 * Refuses a prompt that is far too long by its first part, since all others wait while it is read.
 * Cutting it changes a few tokens at each cut, which the slack allows for.
 */
export function requireNearlyShort(
  prompt: string,
  tokenizer: TextTokenizer,
  contextTokens: number,
): void {
  if (prompt.length <= CHARS_PER_TOKEN_TRUSTED * contextTokens) return;
  let tokens = 0;
  for (let at = 0; at < prompt.length; at += PIECE_CHARS) {
    tokens += tokenizer.encode(prompt.slice(at, at + PIECE_CHARS)).length - PIECE_SLACK_TOKENS;
    if (tokens >= contextTokens) throw promptTooLong(`over ${contextTokens}`, contextTokens);
  }
}

/** An answer needs room for one token at least. */
export function requireRoom(promptTokens: number, contextTokens: number): void {
  if (promptTokens === 0) {
    throw new AppError("invalid_request", "Cannot answer: the prompt has no tokens, 1 needed", {
      hint: 'send a message with text, such as {"role":"user","content":"hi"}',
      param: "messages",
    });
  }
  if (promptTokens >= contextTokens) throw promptTooLong(promptTokens, contextTokens);
}

/** MLX does not check where a token's row lies: a foreign tokenizer would read anything. */
export function requireKnownTokens(ids: readonly number[], vocabSize: number): void {
  const unknown = ids.find((id) => id >= vocabSize);
  if (unknown === undefined) return;
  throw new AppError(
    "invalid_request",
    `Cannot take the prompt: it has the token ${unknown}, one below ${vocabSize} needed`,
    { hint: "the tokenizer belongs to another model; fetch the model's files again" },
  );
}

/** @throws {AppError} `invalid_request` for a bias of a token that the model does not have. */
export function requireKnownBiases(
  biases: readonly (readonly [id: number, bias: number])[],
  vocabSize: number,
): void {
  const unknown = biases.find(([id]) => id >= vocabSize);
  if (unknown === undefined) return;
  const found = `found the token ${unknown[0]}, one below ${vocabSize} needed`;
  throw new AppError("invalid_request", `Cannot honour "logit_bias": ${found}`, {
    hint: "name tokens by their ids in this model's own vocabulary",
    param: "logit_bias",
  });
}
