import { createParser } from "eventsource-parser";

/** One piece of a stream as a client reads it. */
export type SseEvent =
  | { readonly type: "data"; readonly data: string; readonly event?: string }
  | { readonly type: "comment"; readonly comment: string };

/** The events of a reply, one by one; leaving the loop early closes the connection. */
export async function* readSse(body: ReadableStream<Uint8Array>): AsyncGenerator<SseEvent> {
  const events: SseEvent[] = [];
  const parser = createParser({
    onEvent: ({ data, event }) =>
      void events.push({ type: "data", data, ...(event === undefined ? {} : { event }) }),
    onComment: (comment) => void events.push({ type: "comment", comment: comment.trim() }),
  });
  const reader = body.pipeThrough(new TextDecoderStream() as TextStream).getReader();
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      parser.feed(value);
      yield* events.splice(0);
    }
  } finally {
    // A stream that failed already has nothing left to cancel.
    await reader.cancel().catch(() => {});
  }
}

/** What the decoder is; its declared type names a narrower kind of buffer. */
type TextStream = ReadableWritablePair<string, Uint8Array>;
