import assert from "node:assert/strict";
import {
  chatBody,
  type ChatEvent,
  type ChatInput,
  type ChatUsage,
  readChat,
} from "../../api/client_chat.ts";
import { readSse, type SseEvent } from "../../api/client_sse.ts";

/** An answer of a node's API, token by token. */
export interface ToldTokens {
  /** The bytes of each: what has no text of its own counts too. */
  readonly tokens: readonly string[];
  readonly usage: ChatUsage;
}

/** Asks a node's API; `onEvent` hears of what comes as it comes. @throws what the answer ended with. */
export async function toldTokens(
  url: string,
  input: ChatInput,
  onEvent: (event: ChatEvent) => void = () => {},
): Promise<ToldTokens> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...chatBody(input), logprobs: true }),
  });
  assert.ok(response.ok && response.body, `${response.status} of ${url}`);
  const tokens: string[] = [];
  for await (const event of readChat(noting(readSse(response.body), tokens))) {
    onEvent(event);
    if (event.type !== "finish") continue;
    assert.ok(event.usage, "an answer says what it used");
    return { tokens, usage: event.usage };
  }
  throw new Error("An answer without an end");
}

/** What of a chunk names its tokens. */
interface TokenPiece {
  readonly choices?: readonly {
    readonly logprobs?: { readonly content: readonly { readonly bytes: readonly number[] }[] };
  }[];
}

/** The same events; the tokens that they tell of go into `tokens`. */
async function* noting(
  events: AsyncIterable<SseEvent>,
  tokens: string[],
): AsyncGenerator<SseEvent> {
  for await (const event of events) {
    if (event.type === "data" && event.data !== "[DONE]") {
      const { choices = [] } = JSON.parse(event.data) as TokenPiece;
      tokens.push(...(choices[0]?.logprobs?.content ?? []).map(({ bytes }) => bytes.join(" ")));
    }
    yield event;
  }
}
