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
export function chatRoutes(router: Router, { gateway, limits, keepAliveMs }: RouteOptions): void {
  router.post("/v1/chat/completions", async (c) => {
    const json = await readJson(c.req.raw, limits);
    const request = decode(json, () => gateway.newSeed());
    const modelId = findPlacedModel(gateway.state(), request.model);
    const client = new AbortController();
    const unlink = abortWith(c.req.raw.signal, client);
    try {
      // The status of the reply is decided here: nothing is sent before the runner accepts.
      const generation = await gateway.generate(modelId, request.payload, client.signal);
      const answer = answerOf(gateway, generation.commandId, modelId);
      const headers = { [COMMAND_ID_HEADER]: generation.commandId };
      if (!request.stream) return c.json(await encode(generation.chunks, answer), 200, headers);
      const messages = encodeStream(generation.chunks, answer, request);
      return sseResponse(messages, { onDisconnect: () => client.abort(), keepAliveMs, headers });
    } catch (error) {
      if (!client.signal.aborted) throw error;
      throw new AppError("cancelled", "Cannot answer: the client is gone", { cause: error });
    } finally {
      unlink();
    }
  });
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
