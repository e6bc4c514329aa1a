import { AppError } from "../core/errors.ts";

const SHORTEN = "shorten the messages, or make an instance for more if the model can: " +
  "exo instance create MODEL --context TOKENS";

/** The refusal of a prompt that leaves its answer no room. */
export function promptTooLong(promptTokens: number, contextTokens: number): AppError {
  return new AppError(
    "context_length_exceeded",
    `Cannot take the prompt: it has ${promptTokens} tokens, and the context of ${contextTokens} ` +
      `must hold it and the answer, ${contextTokens - 1} at most possible`,
    {
      hint: SHORTEN,
      param: "messages",
    },
  );
}

/** The refusal of a prompt that is so long that it is not even read: all others would wait. */
export function promptOfTooManyCharacters(
  chars: number,
  charsMax: number,
  contextTokens: number,
): AppError {
  return new AppError(
    "context_length_exceeded",
    `Cannot take the prompt: it has ${chars} characters, at most ${charsMax} possible ` +
      `with a context of ${contextTokens} tokens`,
    { hint: SHORTEN, param: "messages" },
  );
}

/** The refusal of a request for which the queue has no place. */
export function queueFull(waiting: number, waitingMax: number): AppError {
  return new AppError(
    "queue_full",
    `Cannot take the request: the queue has ${waiting}, at most ${waitingMax} possible`,
    {
      hint:
        "ask again once one of them is over, or make another instance: exo instance create MODEL",
    },
  );
}

/** The refusal of a request whose client has enough of them in the queue. */
export function clientQueueFull(waiting: number, waitingMax: number): AppError {
  return new AppError(
    "queue_full",
    `Cannot take the request: the queue has ${waiting} of this client, at most ${waitingMax} possible`,
    { hint: "ask again once one of them is over" },
  );
}

/** The end of a request that is alone, and for whose next token there is no memory. */
export function memoryExhausted(): AppError {
  return new AppError(
    "out_of_memory",
    "Cannot go on with the answer: no memory left for keys and values, some needed for each token",
    { hint: "end other programs on the node, or ask for fewer tokens" },
  );
}
