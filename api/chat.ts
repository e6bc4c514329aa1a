import { AppError } from "../core/errors.ts";
import { readJson } from "./body.ts";
import { type ChoiceChunk, generateChoices } from "./choices.ts";
import { clientName } from "./client_name.ts";
import { type Answer, decode, encode, encodeStream } from "./dialects/openai_chat.ts";
import type { Gateway } from "./gateway.ts";
import { findPlacedModel } from "./resolve.ts";
import type { RouteOptions, Router } from "./routes.ts";
import { sseResponse } from "./sse.ts";

/** Names the generation on every reply, so that it can be found in a log; of several, all. */
export const COMMAND_ID_HEADER = "X-Exo-Command-Id";

/** `POST /v1/chat/completions`: one answer or several, whole or as a stream. */
export function chatRoutes(
  router: Router,
  { gateway, metrics, limits, streams }: RouteOptions,
): void {
  router.post("/v1/chat/completions", async (c) => {
    const json = await readJson(c.req.raw, limits);
    const request = decode(json, () => gateway.newSeed());
    const modelId = findPlacedModel(gateway, request.model);
    const { remoteAddress } = c.env ?? {};
    const name = clientName({ remoteAddress, user: request.user });
    const payload = { ...request.payload, ...(name === undefined ? {} : { client: name }) };
    const client = new AbortController();
    const unlink = abortWith(c.req.raw.signal, client);
    try {
      // The status of the reply is decided here: nothing is sent before the runners accept.
      const { choices: count } = request;
      const asked = { modelId, payload, count, signal: client.signal };
      const measured: Pick<Gateway, "generate"> = {
        generate: (modelId, payload, signal) =>
          metrics.generations.follow(
            { modelId, signal },
            () => gateway.generate(modelId, payload, signal),
          ),
      };
      const { commandIds, chunks: made } = await generateChoices(measured, asked);
      const headers = { [COMMAND_ID_HEADER]: commandIds.join(", ") };
      const answer: Answer = {
        id: commandIds[0] ?? "",
        modelId,
        createdAt: gateway.now(),
        version: gateway.version,
        choices: count,
      };
      if (!request.stream) return c.json(await encode(made, answer), 200, headers);
      const chunks = endedBy(client.signal, made);
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
  chunks: AsyncIterable<ChoiceChunk>,
): AsyncGenerator<ChoiceChunk> {
  for await (const chunk of chunks) {
    if (signal.reason instanceof AppError) break;
    yield chunk;
  }
  const { reason } = signal;
  if (reason instanceof AppError) {
    yield { index: 0, chunk: { type: "Error", error: reason.toInfo() } };
  }
}

/** What a client that reads again is told. */
function stalled(): AppError {
  const message = "Cannot go on: the client left what it was sent unread for too long";
  return new AppError("client_too_slow", message, { hint: "read the stream as it comes" });
}

/** Aborts `controller` when `signal` is aborted, until the returned function is called. */
function abortWith(signal: AbortSignal, controller: AbortController): () => void {
  const onAbort = () => controller.abort();
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort);
  return () => signal.removeEventListener("abort", onAbort);
}
