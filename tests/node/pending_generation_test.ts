import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { PendingGeneration } from "../../node/pending_generation.ts";
import { instanceId } from "../support/fixtures.ts";

const PAYLOAD = {
  messages: [{ role: "user" as const, content: "hi" }],
  sampling: {},
  stop: [],
  seed: "1",
};
const ACCEPTED: Chunk = { type: "Accepted", promptTokens: 3 };
const FINISH: Chunk = {
  type: "Finish",
  finishReason: "stop",
  usage: { promptTokens: 3, completionTokens: 1, cachedTokens: 0 },
  stats: { promptTokensPerSecond: 0, generationTokensPerSecond: 0, peakMemoryBytes: 0 },
};
const GONE = { code: "instance_removed" as const, message: "gone" };
const token = (text: string): Chunk => ({ type: "Token", text, tokenId: 0 });
const pending = () => new PendingGeneration(PAYLOAD);
const rest = (one: PendingGeneration) => Array.fromAsync(one.chunks());

async function failsWith(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (thrown) => thrown instanceof AppError && thrown.code === code);
}

Deno.test("accepted() yields the prompt's tokens, chunks() what follows", async () => {
  const one = pending();
  for (const chunk of [ACCEPTED, token("a"), FINISH]) await one.push(chunk);
  assert.equal(await one.accepted(20_000), 3);
  assert.equal(one.ended, true);
  assert.deepEqual(await rest(one), [token("a"), FINISH]);
});

Deno.test("a refusal, silence, a client that leaves and nonsense each end accepted()", async () => {
  const refused = pending();
  await refused.push({ type: "Error", error: { code: "context_length_exceeded", message: "" } });
  await failsWith(refused.accepted(20_000), "context_length_exceeded");
  await failsWith(pending().accepted(5), "timed_out");
  const left = pending();
  const waiting = left.accepted(20_000);
  left.abandon();
  await failsWith(waiting, "cancelled");
  const odd = pending();
  await odd.push(token("before Accepted"));
  await failsWith(odd.accepted(20_000), "internal");
});

Deno.test("a slow reader holds the writer back, and loses nothing", async () => {
  const one = pending();
  const texts = Array.from({ length: 600 }, (_, n) => token(String(n)));
  let pushed = 0;
  const writing = (async () => {
    for (const chunk of [...texts, FINISH]) {
      await one.push(chunk);
      pushed++;
    }
  })();
  for (let turn = 0; turn < 2_000; turn++) await Promise.resolve();
  assert.equal(pushed, 256, "the limit is reached");
  assert.equal(one.ended, false);
  assert.deepEqual(await rest(one), [...texts, FINISH]);
  await writing;
});

Deno.test("an error gets past a full queue: no client hangs behind it", async () => {
  const one = pending();
  for (let n = 0; n < 256; n++) await one.push(token("x"));
  const waiting = one.push(token("dropped"));
  one.fail(GONE);
  await waiting;
  const chunks = await rest(one);
  assert.equal(chunks.length, 257);
  assert.deepEqual(chunks.at(-1), { type: "Error", error: GONE });
});

Deno.test("the first last word is the only one", async () => {
  const finished = pending();
  await finished.push(FINISH);
  finished.fail(GONE);
  finished.failSoon(GONE);
  await finished.push(token("late"));
  assert.deepEqual(await rest(finished), [FINISH]);
  const failed = pending();
  failed.fail(GONE);
  await failed.push(FINISH);
  assert.deepEqual(await rest(failed), [{ type: "Error", error: GONE }]);
});

Deno.test("failSoon() gives way to the worker's own last word", async () => {
  const one = pending();
  one.failSoon(GONE);
  one.failSoon({ code: "runner_failed", message: "second" });
  const own: Chunk = { type: "Error", error: { code: "runner_failed", message: "SIGKILL" } };
  await one.push(own);
  assert.deepEqual(await rest(one), [own]);
});

Deno.test("failSoon() speaks when nobody else does, within a moment", async () => {
  const one = pending();
  const started = performance.now();
  one.failSoon(GONE);
  assert.deepEqual(await rest(one), [{ type: "Error", error: GONE }]);
  assert.ok(performance.now() - started < 10_000);
});

Deno.test("abandon() ends the reader, releases the writer and tells who asked", async () => {
  const one = pending();
  const heard: string[] = [];
  one.onAbandon(() => heard.push("early"));
  for (let n = 0; n < 256; n++) await one.push(token("x"));
  const waiting = one.push(token("y"));
  one.failSoon(GONE);
  one.abandon();
  await waiting;
  one.onAbandon(() => heard.push("late"));
  assert.deepEqual(heard, ["early", "late"]);
  assert.deepEqual(await rest(one), []);
});

Deno.test("a generation that nobody waits for waits for no last word", {
  sanitizeOps: true,
  sanitizeResources: true,
}, () => {
  const one = pending();
  one.abandon();
  one.failSoon({ code: "runner_failed", message: "The answer broke off" });
});

Deno.test("one worker answers; one that comes late is still in time", async () => {
  const pending = new PendingGeneration(PAYLOAD);
  pending.failSoon(GONE);
  assert.equal(pending.claim(), true);
  assert.equal(pending.claim(), false);
  await pending.push(ACCEPTED);
  assert.equal(await pending.accepted(1_000), 3);
  pending.abandon();
});

Deno.test("assigned() waits for the master's answer, or for the end", async () => {
  const answered = new PendingGeneration(PAYLOAD);
  const waiting = answered.assigned();
  answered.assign(instanceId("i"));
  assert.equal(await waiting, "i");
  answered.abandon();
  assert.equal(await answered.assigned(), undefined);
  const gone = new PendingGeneration(PAYLOAD);
  const inVain = gone.assigned();
  gone.abandon();
  assert.equal(await inVain, undefined);
});
