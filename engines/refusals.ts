import { AppError } from "../core/errors.ts";

/** The refusal of a prompt that leaves its answer no room. */
export function promptTooLong(promptTokens: number | string, contextTokens: number): AppError {
  return new AppError(
    "context_length_exceeded",
    `Cannot take the prompt: it has ${promptTokens} tokens, and the context of ${contextTokens} ` +
      `must hold it and the answer, ${contextTokens - 1} at most possible`,
    {
      hint: "shorten the messages, or make an instance for more if the model can: " +
        "exo instance create MODEL --context TOKENS",
      param: "messages",
    },
  );
}

/** The refusal of a request for which the queue has no place. */
export function queueFull(requests: number, requestsMax: number): AppError {
  return new AppError(
    "queue_full",
    `Cannot take the request: ${requests} queued or running, at most ${requestsMax} possible`,
    {
      hint:
        "ask again once one of them is over, or make another instance: exo instance create MODEL",
    },
  );
}
