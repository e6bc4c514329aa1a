import { AppError } from "../core/errors.ts";

/** The refusal of a prompt that leaves its answer no room. */
export function promptTooLong(promptTokens: number | string, contextTokens: number): AppError {
  return new AppError(
    "context_length_exceeded",
    `Cannot take the prompt: it has ${promptTokens} tokens, and the context of ${contextTokens} ` +
      "must hold it and the answer",
    { hint: "shorten the messages, or give the instance more contextTokens", param: "messages" },
  );
}

/** The refusal of a request for which the queue has no place. */
export function queueFull(requests: number, requestsMax: number): AppError {
  return new AppError(
    "queue_full",
    `Cannot take the request: ${requests} queued or running, at most ${requestsMax} possible`,
    { hint: "try again later, or give the instance a larger maxConcurrentRequests" },
  );
}
