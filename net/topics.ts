import { z } from "zod";
import { Chunk } from "../core/chunk.ts";
import { Command, CommandReply } from "../core/commands.ts";
import { Event, IndexedEvent } from "../core/events.ts";
import { TaskId } from "../core/ids.ts";
import { TextGenerationPayload } from "../core/task.ts";

/** Events of the master to all nodes: in order, repeated on request (index shows gaps). */
export const GLOBAL_EVENTS = { topic: "exo/global-events/1", schema: z.array(IndexedEvent) };

/** A command to the master; answered exactly once. */
export const COMMAND = { protocol: "/exo/command/1", request: Command, reply: CommandReply };

/** What a node has seen, to the master; answered when it is in the log or refused. */
export const REPORT = { protocol: "/exo/report/1", request: z.array(Event), reply: z.object({}) };

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
