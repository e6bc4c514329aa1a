import { z } from "zod";
import { Chunk } from "../core/chunk.ts";
import { TaskId } from "../core/ids.ts";
import { TextGenerationPayload } from "../core/task.ts";

/**
 * What the control planes of nodes say to each other (`core/protocol.ts`): on the topic, and what is
 * large to one by the protocol, which answers nothing. Best effort; whoever needs an answer asks
 * again.
 */
export const CONTROL = { topic: "exo/control/1", protocol: "/exo/control/1" };

/**
 * The stream of one generation, opened by the worker that serves it to the API node that keeps its
 * prompt: `Hello` up, `Payload` down, then chunks up. The API node breaks it when its client goes.
 */
export const GENERATION = {
  protocol: "/exo/generation/1",
  hello: z.object({ taskId: TaskId }),
  payload: TextGenerationPayload,
  chunk: Chunk,
};

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A message as UTF-8 JSON. */
export function encodeMessage(message: unknown): Uint8Array {
  return encoder.encode(JSON.stringify(message));
}

/**
 * The message that `bytes` holds.
 * @throws {Error} when it is no JSON or not of the schema.
 */
export function decodeMessage<T>(schema: z.ZodType<T>, bytes: Uint8Array): T {
  return schema.parse(JSON.parse(decoder.decode(bytes)));
}
