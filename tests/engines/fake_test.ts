import assert from "node:assert/strict";
import type { z } from "zod";
import { AppError } from "../../core/errors.ts";
import type { TextGenerationPayload } from "../../core/task.ts";
import type { Engine, EngineResponse } from "../../engines/engine.ts";
import { FakeBuilder, type FakeScript } from "../../engines/fake.ts";
import { taskId } from "../support/fixtures.ts";

function engineOf(script: z.input<typeof FakeScript> = {}): Engine {
  return new FakeBuilder(script).build();
}

function payloadOf(content: string, maxTokens?: number): TextGenerationPayload {
  const messages = [{ role: "user" as const, content }];
  const limit = maxTokens === undefined ? {} : { maxTokens };
  return { messages, sampling: {}, stop: [], seed: "1", ...limit };
}

const submit = (engine: Engine, id: string, content: string, maxTokens?: number) =>
  engine.submit({ taskId: taskId(id), payload: payloadOf(content, maxTokens) });

/** One response in a word. */
function word(response: EngineResponse): string {
  if (response.type !== "chunk") return response.type;
  const { chunk } = response;
  if (chunk.type === "Token") return chunk.text;
  if (chunk.type === "Finish") return `${chunk.finishReason} ${chunk.usage.completionTokens}`;
  return chunk.type;
}

/** All that the engine says until it has nothing to do, one list per step. */
async function drain(engine: Engine, steps = 50): Promise<string[][]> {
  const said: string[][] = [];
  for (let n = 0; n < steps && engine.hasWork(); n++) {
    const responses = await Array.fromAsync(engine.step());
    said.push(responses.map(([id, response]) => `${id} ${word(response)}`));
  }
  return said;
}

Deno.test("a fake answer is the last message, word by word, one a step", async () => {
  const engine = engineOf();
  assert.equal(engine.hasWork(), false);
  assert.deepEqual(submit(engine, "t", "one two"), { promptTokens: 2 });
  assert.deepEqual(await drain(engine), [
    ["t PrefillProgress"],
    ["t one "],
    ["t two", "t stop 2", "t finished"],
  ]);
});

Deno.test("two engines given the same say the same", async () => {
  const run = async () => {
    const engine = engineOf();
    submit(engine, "t", "a b c");
    submit(engine, "u", "d");
    return await drain(engine);
  };
  assert.deepEqual(await run(), await run());
});

Deno.test("the tokens of the script are the answer, cut at maxTokens with `length`", async () => {
  const engine = engineOf({ tokens: ["x", "y", "z"] });
  submit(engine, "t", "whatever", 2);
  assert.deepEqual((await drain(engine)).at(-1), ["t y", "t length 2", "t finished"]);
});

Deno.test("an empty script answers nothing, and stops", async () => {
  const engine = engineOf({ tokens: [] });
  submit(engine, "t", "whatever");
  assert.deepEqual(await drain(engine), [["t PrefillProgress"], ["t stop 0", "t finished"]]);
});

Deno.test("an endless answer goes on until it is cancelled or at its limit", async () => {
  const engine = engineOf({ endless: true, tokens: ["x"] });
  submit(engine, "t", "whatever");
  assert.equal((await drain(engine, 40)).length, 40);
  engine.cancel(taskId("t"));
  assert.deepEqual(await drain(engine), [["t cancelled"]]);
  submit(engine, "u", "whatever", 3);
  assert.equal((await drain(engine)).flat().filter((one) => one === "u x").length, 3);
});

Deno.test("a task is dropped wherever it is, with one `cancelled`", async () => {
  const engine = engineOf();
  submit(engine, "t", "a b");
  submit(engine, "u", "c");
  engine.cancel(taskId("u"));
  engine.cancel(taskId("u"));
  engine.cancel(taskId("nobody"));
  const said = (await drain(engine)).flat();
  assert.deepEqual(said.filter((one) => one.startsWith("u")), ["u cancelled"]);
  assert.equal(said.at(-1), "t finished");
});

Deno.test("a prompt over the context and a full queue are refused", async () => {
  const refuses = (run: () => unknown, code: string) =>
    assert.throws(run, (thrown) => thrown instanceof AppError && thrown.code === code);
  const engine = engineOf({ contextTokens: 3, queueMax: 1 });
  refuses(() => submit(engine, "t", "one two three"), "context_length_exceeded");
  assert.equal(engine.hasWork(), false);
  submit(engine, "t", "one two");
  refuses(() => submit(engine, "u", "one"), "queue_full");
  assert.equal((await drain(engine)).flat().at(-1), "t finished");
});

Deno.test("an engine that gathers requests waits until it has them all", async () => {
  const engine = engineOf({ gatherRequests: 2 });
  submit(engine, "t", "one");
  assert.deepEqual(await Array.fromAsync(engine.step()), []);
  assert.equal(engine.hasWork(), true);
  submit(engine, "u", "two");
  assert.equal((await drain(engine)).flat().at(-1), "u finished");
});

Deno.test("faults strike in the stage that the script names, and nowhere else", async () => {
  const load = (script: z.input<typeof FakeScript>) => [
    ...new FakeBuilder(script).load({ shard: {} as never, modelPath: "", config: {} }),
  ];
  assert.throws(() => load({ failIn: "load" }), /told to fail in load/);
  assert.deepEqual(load({ failIn: "warmup" }), [{ layersLoaded: 1, totalLayers: 1 }]);
  assert.throws(() => engineOf({ failIn: "warmup" }).warmup(), /told to fail in warmup/);
  engineOf({ failIn: "load" }).warmup();
  const engine = engineOf({ failIn: "request" });
  submit(engine, "t", "a");
  assert.deepEqual(await drain(engine), [["t Error", "t finished"]]);
});

Deno.test("a script that is none is refused", () => {
  assert.throws(() => new FakeBuilder({ queueMax: 0 }));
  assert.throws(() => new FakeBuilder({ failIn: "lunch" as never }));
});

Deno.test("a fake engine counts what it pretends to do", async () => {
  const engine = engineOf();
  submit(engine, "t", "one two");
  submit(engine, "u", "three");
  assert.deepEqual([engine.stats().running, engine.stats().queued], [1, 1]);
  await drain(engine);
  const { running, queued, requests, promptTokens, generatedTokens, steps } = engine.stats();
  assert.deepEqual([running, queued, requests], [0, 0, 2]);
  assert.deepEqual([promptTokens, generatedTokens, steps], [3, 3, 5]);
});
