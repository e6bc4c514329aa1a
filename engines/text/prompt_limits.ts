import { AppError } from "../../core/errors.ts";
import { promptTooLong } from "../refusals.ts";

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
