import type { ApiClient } from "../api/client.ts";
import type { ChatEvent } from "../api/client_chat.ts";
import type { Ask, Question } from "../bench/measure.ts";
import { type AppError, type ErrorCode, toAppError } from "../core/errors.ts";

/** How servers of others may answer a field that they do not know. */
const FOREIGN_REFUSALS: ReadonlySet<ErrorCode> = new Set([
  "invalid_request",
  "unsupported_parameter",
  // Statuses and bodies that our table has no code for.
  "internal",
  "node_unreachable",
]);

/** Whom to ask, and what to do when `ignore_eos` is refused. */
export interface AskOptions {
  readonly model: string;
  readonly timeoutMs: number;
  /** An exo names the field that it refuses; any other refusal is about something else. */
  readonly isExo: boolean;
  /** Whether prompts may be read from the cache of an exo, which makes them look fast. */
  readonly usePrefixCache: boolean;
  /** Called once, when an answer came without the field and none with it. */
  readonly onRefused: () => void;
}

/**
 * Asks for answers of exactly the length that is wanted: by `ignore_eos`, which exo, llama.cpp and
 * vLLM know. An endpoint that refuses the first question with it is asked again without, and from
 * then on never with it.
 */
export function benchAsk(client: Pick<ApiClient, "chat">, options: AskOptions): Ask {
  const { model, timeoutMs, isExo, usePrefixCache, onRefused } = options;
  const cache = isExo ? { usePrefixCache } : {};
  let isTaken: boolean | undefined;
  const ask = ({ prompt, maxTokens }: Question, ignoreEos?: true): AsyncIterable<ChatEvent> => {
    const messages = [{ role: "user" as const, content: prompt }];
    const input = { model, messages, maxTokens, temperature: 0, ignoreEos, ...cache };
    return client.chat(input, { timeoutMs });
  };
  return async function* (question) {
    if (isTaken !== false) {
      try {
        for await (const event of ask(question, true)) {
          isTaken = true;
          yield event;
        }
        return;
      } catch (error) {
        if (isTaken || !mayBeRefusal(toAppError(error), isExo)) throw error;
      }
    }
    for await (const event of ask(question)) {
      if (isTaken === undefined) onRefused();
      isTaken = false;
      yield event;
    }
  };
}

function mayBeRefusal({ code, param }: AppError, isExo: boolean): boolean {
  return param === "ignore_eos" || (!isExo && FOREIGN_REFUSALS.has(code));
}
