import type { Chunk } from "../core/chunk.ts";
import { AppError } from "../core/errors.ts";
import { readJson } from "./body.ts";
import { type Answer, decode, encode, encodeStream } from "./dialects/openai_chat.ts";
import type { Gateway } from "./gateway.ts";
import { findPlacedModel } from "./resolve.ts";
import type { RouteOptions, Router } from "./routes.ts";
import { sseResponse } from "./sse.ts";

/** Names the generation on every reply, so that it can be found in a log. */
export const COMMAND_ID_HEADER = "X-Exo-Command-Id";

/** `POST /v1/chat/completions`: one answer, whole or as a stream. */
export function chatRoutes(
  router: Router,
  { gateway, metrics, limits, streams }: RouteOptions,
): void {
  router.post("/v1/chat/completions", async (c) => {
    const json = await readJson(c.req.raw, limits);
    const request = decode(json, () => gateway.newSeed());
    const modelId = findPlacedModel(gateway.state(), request.model);
    const client = new AbortController();
    const unlink = abortWith(c.req.raw.signal, client);
    try {
      // The status of the reply is decided here: nothing is sent before the runner accepts.
      const ask = () => gateway.generate(modelId, request.payload, client.signal);
      const generation = await metrics.generations.follow(modelId, ask);
      const answer = answerOf(gateway, generation.commandId, modelId);
      const headers = { [COMMAND_ID_HEADER]: generation.commandId };
      if (!request.stream) return c.json(await encode(generation.chunks, answer), 200, headers);
      const chunks = endedBy(client.signal, generation.chunks);
      return sseResponse(encodeStream(chunks, answer, request), {
        ...streams,
        headers,
        onDisconnect: () => client.abort(),
        onStall: () => client.abort(stalled()),
      });
    } catch (error) {
      if (!client.signal.aborted) throw error;
      throw new AppError("cancelled", "Cannot answer: the client is gone", { cause: error });
    } finally {
      unlink();
    }
  });
}

/** The chunks, ended by the error with which `signal` is aborted, if it is. */
async function* endedBy(
  signal: AbortSignal,
  chunks: AsyncIterable<Chunk>,
): AsyncGenerator<Chunk> {
  for await (const chunk of chunks) {
    if (signal.reason instanceof AppError) break;
    yield chunk;
  }
  if (signal.reason instanceof AppError) yield { type: "Error", error: signal.reason.toInfo() };
}

/** What a client that reads again is told. */
function stalled(): AppError {
  const message = "Cannot go on: the client left what it was sent unread for too long";
  return new AppError("client_too_slow", message, { hint: "read the stream as it comes" });
}

function answerOf(gateway: Gateway, id: Answer["id"], modelId: Answer["modelId"]): Answer {
  return { id, modelId, createdAt: gateway.now(), version: gateway.version };
}

/** Aborts `controller` when `signal` is aborted, until the returned function is called. */
function abortWith(signal: AbortSignal, controller: AbortController): () => void {
  const onAbort = () => controller.abort();
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort);
  return () => signal.removeEventListener("abort", onAbort);
}
