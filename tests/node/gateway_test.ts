import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import type { Command, CommandReply } from "../../core/commands.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import type { Event } from "../../core/events.ts";
import type { TaskId } from "../../core/ids.ts";
import { accepted, decide } from "../../core/master.ts";
import { NO_TELEMETRY } from "../../core/telemetry.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { Gateway } from "../../node/gateway.ts";
import { GenerationRelay } from "../../node/generation_relay.ts";
import { Replica } from "../../node/replica.ts";
import { A, created, fold, instanceOf, MODEL, reported } from "../support/fixtures.ts";
import { eventually } from "../support/eventually.ts";

const PAYLOAD = {
  messages: [{ role: "user" as const, content: "hi" }],
  sampling: {},
  stop: [],
  seed: "1",
};
type Accepted = Extract<CommandReply, { type: "CommandAccepted" }>;

const never = new AbortController().signal;
const ACCEPTED: Chunk = { type: "Accepted", promptTokens: 3 };
const token: Chunk = { type: "Token", text: "hi", tokenId: 0 };
const FINISH: Chunk = {
  type: "Finish",
  finishReason: "stop",
  usage: { promptTokens: 3, completionTokens: 1, cachedTokens: 0 },
  stats: { promptTokensPerSecond: 0, generationTokensPerSecond: 0, peakMemoryBytes: 0 },
};
const errorOf = (code: ErrorCode): Chunk => ({ type: "Error", error: { code, message: code } });

/** A gateway with a master of a few lines, and two ready instances whose worker is the test. */
function world(work: (relay: GenerationRelay, nth: number) => void) {
  const transport = new MemoryNetwork().join(A);
  const ready = ["a", "b"].flatMap((id) => [
    created(instanceOf(id)),
    reported(`${id}:0`, "RunnerReady"),
  ]);
  const replica = new Replica(fold(ready));
  const commands: Command["type"][] = [];
  const relays: GenerationRelay[] = [];
  const emit = (...events: Event[]) => {
    replica.set(fold(events, replica.state));
  };
  const submit = async (command: Command): Promise<Accepted> => {
    commands.push(command.type);
    const decision = decide(replica.state, command, { telemetry: NO_TELEMETRY, now: 0 });
    emit(...decision.events);
    for (const event of decision.events) {
      if (event.type !== "TaskCreated") continue;
      const { apiNodeId, taskId } = event.task;
      const { relay, payload } = await GenerationRelay.open(transport, apiNodeId, taskId);
      assert.deepEqual(payload, PAYLOAD);
      work(relay, relays.push(relay));
    }
    return accepted(command, replica.state.lastEventAppliedIdx, decision) as Accepted;
  };
  const followed = new Set<TaskId>();
  const reporter = {
    followTask: (taskId: TaskId) => void followed.add(taskId),
    forgetTask: (taskId: TaskId) => void followed.delete(taskId),
  };
  const control = { submit };
  const clock = SYSTEM_CLOCK;
  const gateway = new Gateway({ nodeId: A, replica, transport, clock, control, reporter });
  gateway.start();
  return { gateway, replica, commands, relays, emit, followed };
}

const say = (...chunks: Chunk[]) => (relay: GenerationRelay) =>
  chunks.forEach((chunk) => relay.push(chunk));

async function failsWith(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code);
    return true;
  });
}

Deno.test("a generation that ends by itself is finished, never cancelled", async () => {
  const { gateway, commands, replica, followed } = world(say(ACCEPTED, token, FINISH));
  const { chunks, promptTokens } = await gateway.generate(MODEL, PAYLOAD, never);
  assert.equal(promptTokens, 3);
  assert.deepEqual(await Array.fromAsync(chunks), [token, FINISH]);
  assert.deepEqual(commands, ["TextGeneration", "TaskFinished"]);
  assert.equal(replica.state.tasks.size, 0);
  assert.equal(followed.size, 0);
});

Deno.test("a client that stops reading, or goes away, cancels first", async () => {
  const read = world(say(ACCEPTED, token, token));
  const { chunks } = await read.gateway.generate(MODEL, PAYLOAD, never);
  for await (const chunk of chunks) if (chunk.type === "Token") break;
  assert.deepEqual(read.commands, ["TextGeneration", "TaskCancelled", "TaskFinished"]);
  const gone = world(say(ACCEPTED, token));
  const client = new AbortController();
  const generation = await gone.gateway.generate(MODEL, PAYLOAD, client.signal);
  client.abort();
  await eventually("the task is forgotten", () => gone.commands.includes("TaskFinished"));
  assert.deepEqual(gone.commands, ["TextGeneration", "TaskCancelled", "TaskFinished"]);
  assert.deepEqual((await Array.fromAsync(generation.chunks)).filter((one) => one !== token), []);
});

Deno.test("a client that was gone before the start asks nobody for anything", async () => {
  const { gateway, replica } = world(say(ACCEPTED));
  const reason = AbortSignal.abort();
  await assert.rejects(gateway.generate(MODEL, PAYLOAD, reason));
  assert.equal(replica.state.tasks.size, 0);
});

Deno.test("a runner that dies before it accepted costs nothing: another one answers", async () => {
  const { gateway, relays, replica } = world((relay, nth) =>
    nth === 1 ? relay.push(errorOf("runner_failed")) : say(ACCEPTED, token, FINISH)(relay)
  );
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  assert.deepEqual(await Array.fromAsync(chunks), [token, FINISH]);
  assert.equal(relays.length, 2);
  assert.equal(replica.state.tasks.size, 0);
});

Deno.test("it is tried once more and no oftener; the first reason is told", async () => {
  const { gateway, relays } = world((relay, nth) =>
    void relay.push(errorOf(nth === 1 ? "runner_failed" : "queue_full"))
  );
  await failsWith(gateway.generate(MODEL, PAYLOAD, never), "runner_failed");
  assert.equal(relays.length, 2);
});

Deno.test("a refusal of the request itself is not tried again", async () => {
  const { gateway, relays, replica } = world(say(errorOf("context_length_exceeded")));
  await failsWith(gateway.generate(MODEL, PAYLOAD, never), "context_length_exceeded");
  assert.equal(relays.length, 1);
  assert.equal(replica.state.tasks.size, 0);
});

Deno.test("a task that the state ends without a last word ends the answer too", async () => {
  const { gateway, emit, replica } = world(say(ACCEPTED, token));
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  const [taskId] = replica.state.tasks.keys();
  assert.ok(taskId);
  emit({ type: "TaskStatusUpdated", taskId, taskStatus: "Failed" });
  const all = await Array.fromAsync(chunks);
  const last = all.at(-1);
  assert.ok(last?.type === "Error");
  assert.equal(last.error.code, "runner_failed");
});

Deno.test("a stopping gateway gives every client a last word", async () => {
  const { gateway } = world(say(ACCEPTED, token));
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  gateway.stop();
  const last = (await Array.fromAsync(chunks)).at(-1);
  assert.ok(last?.type === "Error");
  assert.equal(last.error.code, "not_ready");
});
