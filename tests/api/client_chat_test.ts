import { deepEqual, rejects } from "node:assert/strict";
import { readChat } from "../../api/client_chat.ts";
import type { SseEvent } from "../../api/client_sse.ts";

async function* events(...all: readonly SseEvent[]): AsyncGenerator<SseEvent> {
  yield* all;
}

const read = (...all: readonly SseEvent[]) => Array.fromAsync(readChat(events(...all)));

for (const data of ["garbage", "null", "[1]", "7", ""]) {
  Deno.test(`readChat() tells a stream that sends "${data}" apart from a defect of ours`, async () => {
    await rejects(read({ type: "data", data }), {
      name: "AppError",
      code: "node_unreachable",
      message: `Cannot read the answer: found "${data}" in its stream, a JSON object needed`,
    });
  });
}

Deno.test("readChat() passes over comments that it cannot read", async () => {
  const chunk = { model: "m", choices: [{ delta: { content: "hi" }, finish_reason: "stop" }] };
  const said = await read(
    { type: "comment", comment: "generation_stats {broken" },
    { type: "comment", comment: "prefill_progress" },
    { type: "data", data: JSON.stringify(chunk) },
    { type: "data", data: "[DONE]" },
  );
  deepEqual(said.map(({ type }) => type), ["text", "finish"]);
});
