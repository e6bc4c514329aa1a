import assert from "node:assert/strict";
import { z } from "zod";
import { Command } from "../../core/commands.ts";
import { NodeId } from "../../core/ids.ts";
import { decodeMessage, encodeMessage, GENERATION } from "../../net/topics.ts";
import { commandId, MODEL, taskId } from "../support/fixtures.ts";

/** A message after a trip over the wire. */
const sent = <T>(schema: z.ZodType<T>, message: T) => decodeMessage(schema, encodeMessage(message));

Deno.test("a prompt and its chunks survive the wire", () => {
  const hello = { taskId: taskId("t") };
  assert.deepEqual(sent(GENERATION.hello, hello), hello);
  const payload = {
    messages: [{ role: "user" as const, content: "\u0000 ü" }],
    sampling: { temperature: 0 },
    stop: ["\n"],
    seed: "18446744073709551615",
  };
  assert.deepEqual(sent(GENERATION.payload, payload), payload);
  const chunk = { type: "Token" as const, text: "\u{1f600}", tokenId: 7 };
  assert.deepEqual(sent(GENERATION.chunk, chunk), chunk);
});

Deno.test("a task of the control plane has no field in which a prompt could travel", () => {
  const command = {
    type: "TextGeneration" as const,
    commandId: commandId("c"),
    modelId: MODEL,
    apiNodeId: NodeId.parse("n"),
    messages: [{ role: "user", content: "secret" }],
  };
  assert.doesNotMatch(JSON.stringify(sent<unknown>(Command, command)), /secret/);
});

Deno.test("what is no UTF-8, no JSON or not of the schema is refused", () => {
  assert.throws(() => decodeMessage(GENERATION.hello, Uint8Array.of(0xff)), TypeError);
  assert.throws(() => decodeMessage(GENERATION.hello, new TextEncoder().encode("{")), SyntaxError);
  const ofSchema = (thrown: unknown) => thrown instanceof z.ZodError;
  const wrongType = encodeMessage({ taskId: 1 });
  assert.throws(() => decodeMessage(GENERATION.hello, wrongType), ofSchema);
  const unknown = encodeMessage({ type: "Format" });
  assert.throws(() => decodeMessage(Command, unknown), ofSchema);
});
