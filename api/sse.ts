/** Longest silence of a stream: after it a comment tells proxies and clients that it lives. */
export const KEEP_ALIVE_MS = 10_000;

/**
 * Longest time that a client may leave what it was sent untaken, beyond what sockets hold for it;
 * after it, the client has stopped to read.
 */
export const STALL_MS = 120_000;

/** One message of a stream. A comment is for whoever knows it; standard clients skip it. */
export type SseMessage =
  | { readonly data: string; readonly event?: string; readonly id?: string }
  | { readonly comment: string };

/** What every stream of ours is sent with; proxies neither store nor collect it. */
const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  "x-accel-buffering": "no",
};

const KEEP_ALIVE: SseMessage = { comment: "keep-alive" };

/** A message as the bytes of the wire. Source: WHATWG HTML, server-sent events. */
export function encodeSse(message: SseMessage): string {
  if ("comment" in message) return `: ${message.comment}\n\n`;
  const event = message.event === undefined ? "" : `event: ${message.event}\n`;
  const id = message.id === undefined ? "" : `id: ${message.id}\n`;
  return `${id}${event}${message.data.split("\n").map((line) => `data: ${line}\n`).join("")}\n`;
}

/** How a stream is kept and ended. */
export interface SseOptions {
  /** Called when the client is gone, before `messages` is told to return. */
  readonly onDisconnect: () => void;
  /** Called once when the client has stopped to read; `messages` should then end soon. */
  readonly onStall: () => void;
  readonly keepAliveMs?: number | undefined;
  readonly stallMs?: number | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * Messages as a reply. Each is asked for only when the client has taken the one before, so a slow
 * client slows its own source and fills no memory of ours.
 */
export function sseResponse(messages: AsyncIterable<SseMessage>, options: SseOptions): Response {
  return new Response(sseBody(messages, options), { headers: { ...HEADERS, ...options.headers } });
}

function sseBody(
  messages: AsyncIterable<SseMessage>,
  { onDisconnect, onStall, keepAliveMs = KEEP_ALIVE_MS, stallMs = STALL_MS }: SseOptions,
): ReadableStream<Uint8Array> {
  const source = messages[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  let isGone = false;
  let isFirst = true;
  let pending: Promise<IteratorResult<SseMessage>> | undefined;
  let stall: ReturnType<typeof setTimeout> | undefined;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      clearTimeout(stall);
      const send = (message: SseMessage) => {
        controller.enqueue(encoder.encode(encodeSse(message)));
        stall = setTimeout(onStall, stallMs);
      };
      if (isFirst) {
        isFirst = false;
        return send(KEEP_ALIVE);
      }
      pending ??= source.next();
      const result = await within(pending, keepAliveMs);
      if (isGone) return;
      if (result === undefined) return send(KEEP_ALIVE);
      pending = undefined;
      if (result.done) controller.close();
      else send(result.value);
    },
    cancel() {
      isGone = true;
      clearTimeout(stall);
      onDisconnect();
      // Not awaited: a source that is waiting returns only once its wait is over.
      source.return?.().catch(() => {});
    },
  }, { highWaterMark: 0 });
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
