import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { decodeMessage, encodeMessage, GENERATION } from "../../net/topics.ts";
import { type MessageStream, STREAM_CREDIT_MESSAGES, type Transport } from "../../net/transport.ts";
import { GenerationRelay, OPEN_TRIES_MAX, RELAY_CHUNKS_MAX } from "../../node/generation_relay.ts";
import { A, B, taskId } from "../support/fixtures.ts";
import { eventually } from "../support/eventually.ts";

const TASK = taskId("t");
const PAYLOAD = {
  messages: [{ role: "user" as const, content: "hi" }],
  sampling: {},
  stop: [],
  seed: "1",
};
const ERROR: Chunk = { type: "Error", error: { code: "runner_failed", message: "OOM" } };
const token = (text: string): Chunk => ({ type: "Token", text, tokenId: 0 });

/** A worker's transport, and an API node that treats each stream as `serve` says. */
function world(serve: (stream: MessageStream, reader: AsyncIterator<Uint8Array>) => unknown) {
  const network = new MemoryNetwork();
  const worker = network.join(A);
  const api = network.join(B);
  api.handleStream(GENERATION.protocol, (stream) => {
    void serve(stream, stream[Symbol.asyncIterator]());
  });
  return { worker, api };
}

/** An API node that hands the prompt over and keeps the stream for the test. */
async function opened() {
  const taken = Promise.withResolvers<MessageStream>();
  const { worker } = world(async (stream, reader) => {
    const { value } = await reader.next();
    assert.deepEqual(decodeMessage(GENERATION.hello, value), { taskId: TASK });
    await stream.send(encodeMessage(PAYLOAD));
    taken.resolve(stream);
  });
  const { relay, payload } = await GenerationRelay.open(worker, B, TASK);
  assert.deepEqual(payload, PAYLOAD);
  return { relay, stream: await taken.promise };
}

async function readAll(stream: MessageStream): Promise<Chunk[]> {
  const messages = await Array.fromAsync(stream);
  return messages.map((bytes) => decodeMessage(GENERATION.chunk, bytes));
}

async function failsWith(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (thrown) => thrown instanceof AppError && thrown.code === code);
}

Deno.test("a relay fetches the prompt and carries chunks up to the last word", async () => {
  const { relay, stream } = await opened();
  const chunks = [token("a"), token("b"), ERROR];
  for (const chunk of chunks) assert.equal(relay.push(chunk), true);
  assert.deepEqual(await readAll(stream), chunks);
});

Deno.test("after the last word nothing more is sent", async () => {
  const { relay, stream } = await opened();
  relay.push(ERROR);
  relay.fail({ code: "internal", message: "second" });
  assert.equal(relay.push(token("late")), true);
  assert.deepEqual(await readAll(stream), [ERROR]);
});

Deno.test("fail() is an error chunk for the client, behind what was said before", async () => {
  const { relay, stream } = await opened();
  relay.push(token("a"));
  relay.fail({ code: "runner_failed", message: "OOM" });
  assert.deepEqual(await readAll(stream), [token("a"), ERROR]);
});

Deno.test("close() sends what waits and ends", async () => {
  const { relay, stream } = await opened();
  relay.push(token("a"));
  relay.close();
  assert.deepEqual(await readAll(stream), [token("a")]);
  assert.equal(stream.aborted.aborted, false);
});

Deno.test("an API node that is gone, or has forgotten the task, fails the opening", async () => {
  const nobody = new MemoryNetwork().join(A);
  await failsWith(GenerationRelay.open(nobody, B, TASK), "node_unreachable");
  const { worker } = world((stream) => stream.abort("task t is not known here"));
  await assert.rejects(GenerationRelay.open(worker, B, TASK));
  const quiet = world(async (stream, reader) => {
    await reader.next();
    stream.end();
  });
  await failsWith(GenerationRelay.open(quiet.worker, B, TASK), "cancelled");
});

Deno.test("a prompt that cannot be read fails the opening and breaks the stream", async () => {
  const taken = Promise.withResolvers<MessageStream>();
  const { worker } = world(async (stream) => {
    taken.resolve(stream);
    await stream.send(encodeMessage({ messages: [] }));
  });
  await assert.rejects(GenerationRelay.open(worker, B, TASK));
  assert.equal((await taken.promise).aborted.aborted, true);
});

Deno.test("a reader that has stopped reading is given up at the limit", async () => {
  const { relay, stream } = await opened();
  let taken = 0;
  while (taken <= 2 * RELAY_CHUNKS_MAX && relay.push(token("x"))) {
    taken++;
    // Lets the pump move what the stream has room for.
    if (taken % 64 === 0) await Promise.resolve();
  }
  assert.ok(taken >= RELAY_CHUNKS_MAX, `gave up after ${taken}`);
  assert.ok(taken <= RELAY_CHUNKS_MAX + STREAM_CREDIT_MESSAGES + 2, `took ${taken}`);
  assert.equal(relay.push(token("late")), true, "told once");
  const received = await Array.fromAsync(stream);
  const last = JSON.parse(new TextDecoder().decode(received.at(-1)));
  assert.equal(last.error.code, "client_too_slow", "when it reads again, it is told why");
});

Deno.test("a client that leaves makes the relay fall silent, and nothing else", async () => {
  const { relay, stream } = await opened();
  relay.push(token("a"));
  stream.abort("the client is gone");
  for (let n = 0; n < 10; n++) assert.equal(relay.push(token("b")), true);
  relay.fail({ code: "internal", message: "late" });
  await eventually("the stream is broken", () => stream.aborted.aborted);
});

Deno.test("a relay tells once that nobody reads any more, and not after its last word", async () => {
  const { relay, stream } = await opened();
  let told = 0;
  relay.onBroken(() => told++);
  stream.abort("the client is gone");
  await eventually("the relay has noticed", () => told > 0);
  relay.push(token("late"));
  assert.equal(told, 1);
  relay.onBroken(() => told++);
  assert.equal(told, 2, "who asks late is told at once");
  const over = await opened();
  let toldAfterEnd = false;
  over.relay.onBroken(() => toldAfterEnd = true);
  over.relay.push(ERROR);
  over.stream.abort("the node has stopped");
  await eventually("the stream is broken", () => over.stream.aborted.aborted);
  assert.equal(toldAfterEnd, false);
});

Deno.test("an API node that is out of reach for a moment is tried again", async () => {
  const network = new MemoryNetwork();
  const worker = network.join(A);
  let tries = 0;
  const flaky: Pick<Transport, "openStream"> = {
    openStream: (peer, protocol) => {
      if (++tries < OPEN_TRIES_MAX) return Promise.reject(new Error("the link has just broken"));
      return worker.openStream(peer, protocol);
    },
  };
  network.join(B).handleStream(GENERATION.protocol, (stream) => {
    void stream.send(encodeMessage(PAYLOAD));
  });
  const { payload } = await GenerationRelay.open(flaky, B, TASK);
  assert.deepEqual(payload, PAYLOAD);
  assert.equal(tries, OPEN_TRIES_MAX);
});
