import assert from "node:assert/strict";
import type { Chunk } from "../../core/chunk.ts";
import type { Command, CommandReply } from "../../core/commands.ts";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import type { Event } from "../../core/events.ts";
import type { NodeId, TaskId } from "../../core/ids.ts";
import { accepted, decide } from "../../core/master.ts";
import type { Task } from "../../core/task.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { decodeMessage, encodeMessage, GENERATION } from "../../net/topics.ts";
import type { Transport } from "../../net/transport.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { Gateway, MASTER_CHANGES_MAX } from "../../node/gateway.ts";
import { GenerationRelay } from "../../node/generation_relay.ts";
import { Replica } from "../../node/replica.ts";
import {
  A,
  B,
  C,
  created,
  decideContext,
  fold,
  instanceId,
  instanceOf,
  MODEL,
  reported,
} from "../support/fixtures.ts";
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
const progress: Chunk = { type: "PrefillProgress", processedTokens: 1, totalTokens: 3 };
const token: Chunk = { type: "Token", text: "hi", tokenId: 0 };
const FINISH: Chunk = {
  type: "Finish",
  finishReason: "stop",
  usage: { promptTokens: 3, completionTokens: 1, cachedTokens: 0 },
  stats: { promptTokensPerSecond: 0, generationTokensPerSecond: 0, peakMemoryBytes: 0 },
};
const errorOf = (code: ErrorCode): Chunk => ({ type: "Error", error: { code, message: code } });

/** A gateway on A with a master of a few lines, and ready instances whose workers are the test. */
function world(
  work: (relay: GenerationRelay, nth: number) => void,
  nodes: readonly [NodeId, NodeId] = [A, A],
) {
  const network = new MemoryNetwork();
  const transports = new Map([...new Set([A, ...nodes])].map((id) => [id, network.join(id)]));
  const transport = transports.get(A) as Transport;
  const ready = ["a", "b"].flatMap((id, at) => [
    created(instanceOf(id, [nodes[at] as NodeId])),
    reported(`${id}:0`, "RunnerReady"),
  ]);
  const replica = new Replica(fold(ready));
  const commands: Command["type"][] = [];
  const relays: GenerationRelay[] = [];
  const served: string[] = [];
  const emit = (...events: Event[]) => {
    replica.set(fold(events, replica.state));
  };
  const serve = async ({ apiNodeId, taskId, instanceId }: Task) => {
    const node = nodes[instanceId === "a" ? 0 : 1];
    const worker = transports.get(node) as Transport;
    served.push(instanceId);
    const { relay, payload } = await GenerationRelay.open(worker, apiNodeId, taskId);
    assert.deepEqual(payload, PAYLOAD);
    work(relay, relays.push(relay));
  };
  let refusalOf: (type: Command["type"]) => AppError | undefined = () => undefined;
  const refuse = (refusal: typeof refusalOf) => void (refusalOf = refusal);
  const submit = (command: Command): Promise<Accepted> => {
    commands.push(command.type);
    const refusal = refusalOf(command.type);
    if (refusal) return Promise.reject(refusal);
    const decision = decide(replica.state, command, decideContext(new Map()));
    emit(...decision.events);
    for (const event of decision.events) {
      // A stream that breaks while it is opened is the test's business.
      if (event.type === "TaskCreated") serve(event.task).catch(() => {});
    }
    const { lastEventAppliedIdx } = replica.state;
    return Promise.resolve(accepted(command, lastEventAppliedIdx, decision) as Accepted);
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
  return { gateway, replica, commands, relays, emit, followed, served, transports, refuse };
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

/** Only the first instance is there. */
const alone = ({ emit }: Pick<ReturnType<typeof world>, "emit">) =>
  emit({ type: "InstanceDeleted", instanceId: instanceId("b") });

for (const word of [[], [ACCEPTED]]) {
  const when = word.length === 0 ? "before it accepted" : "before the first word";
  Deno.test(`an instance that fails ${when} answers once it is made anew`, async () => {
    const failing = Promise.withResolvers<void>();
    const one = world((relay, nth) => {
      if (nth > 1) return say(ACCEPTED, token, FINISH)(relay);
      one.emit(reported("a:0", "RunnerFailed"));
      say(...word, errorOf("runner_failed"))(relay);
      failing.resolve();
    });
    alone(one);
    const answer = one.gateway.generate(MODEL, PAYLOAD, never)
      .then(({ chunks }) => Array.fromAsync(chunks));
    await failing.promise;
    await settled();
    assert.equal(one.relays.length, 1, "nobody is asked while nobody serves");
    one.emit(reported("a:0", "RunnerReady", { incarnation: 2 }));
    assert.deepEqual(await answer, [token, FINISH]);
    assert.deepEqual(one.served, ["a", "a"]);
  });
}

Deno.test("where no instance is left or wanted, the failure is told at once", async () => {
  const one = world((relay) => {
    one.emit({ type: "InstanceDeleted", instanceId: instanceId("a") });
    relay.push(errorOf("runner_failed"));
  });
  alone(one);
  await failsWith(one.gateway.generate(MODEL, PAYLOAD, never), "runner_failed");
});

Deno.test("a node that stops, and a client that goes, end the wait for an instance", async () => {
  for (const way of ["stop", "abort"] as const) {
    const client = new AbortController();
    const failing = Promise.withResolvers<void>();
    const one = world((relay) => {
      one.emit(reported("a:0", "RunnerFailed"));
      relay.push(errorOf("runner_failed"));
      failing.resolve();
    });
    alone(one);
    const answer = one.gateway.generate(MODEL, PAYLOAD, client.signal);
    await failing.promise;
    await settled();
    if (way === "stop") one.gateway.stop();
    else client.abort();
    await failsWith(answer, "runner_failed");
  }
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

Deno.test("a request that no runner accepted in time is forgotten everywhere", async () => {
  const { gateway, replica, followed } = world(say(errorOf("queue_full")));
  await failsWith(gateway.generate(MODEL, PAYLOAD, never), "queue_full");
  await eventually("the task is forgotten", () => followed.size === 0);
  assert.equal(replica.state.tasks.size, 0);
});

for (const code of ["runner_failed", "group_broken"] as const) {
  Deno.test(`${code} before the first word is passed over: another instance answers`, async () => {
    const { gateway, served } = world((relay, nth) =>
      say(ACCEPTED, ...(nth === 1 ? [errorOf(code)] : [token, FINISH]))(relay)
    );
    const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
    assert.deepEqual(await Array.fromAsync(chunks), [token, FINISH]);
    assert.deepEqual(served, ["a", "b"]);
  });
}

Deno.test("a runner that dies while it reads the prompt has said nothing: another one answers", async () => {
  const { gateway, served } = world((relay, nth) =>
    say(ACCEPTED, progress, ...(nth === 1 ? [errorOf("runner_failed")] : [token, FINISH]))(relay)
  );
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  assert.deepEqual(await Array.fromAsync(chunks), [progress, progress, token, FINISH]);
  assert.deepEqual(served, ["a", "b"]);
});

Deno.test("while the prompt is read it is tried once more and no oftener", async () => {
  const { gateway, served } = world(say(ACCEPTED, progress, errorOf("runner_failed")));
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  const failed = errorOf("runner_failed");
  assert.deepEqual(await Array.fromAsync(chunks), [progress, progress, failed]);
  assert.deepEqual(served, ["a", "b"]);
});

Deno.test("after the first word a failure is told, and nothing is said twice", async () => {
  const { gateway, served } = world(say(ACCEPTED, token, errorOf("runner_failed")));
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  assert.deepEqual(await Array.fromAsync(chunks), [token, errorOf("runner_failed")]);
  assert.deepEqual(served, ["a"]);
});

Deno.test("a node that dies before it accepted costs nothing: another one answers", async () => {
  const { gateway, transports, served } = world((relay, nth) => {
    if (nth === 1) void transports.get(B)?.close();
    else say(ACCEPTED, token, FINISH)(relay);
  }, [B, C]);
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  assert.deepEqual(await Array.fromAsync(chunks), [token, FINISH]);
  assert.deepEqual(served, ["a", "b"]);
});

Deno.test("a node that dies before it has asked for the prompt is not waited for", async () => {
  const { gateway, transports, served } = world(say(ACCEPTED, token, FINISH), [B, C]);
  const generation = gateway.generate(MODEL, PAYLOAD, never);
  await transports.get(B)?.close();
  const { chunks } = await generation;
  assert.deepEqual(await Array.fromAsync(chunks), [token, FINISH]);
  assert.deepEqual(served, ["a", "b"]);
});

Deno.test("a node that dies in the middle is named to the client", async () => {
  const { gateway, transports, relays } = world(say(ACCEPTED, token), [B, C]);
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  const reader = chunks[Symbol.asyncIterator]();
  assert.deepEqual((await reader.next()).value, token);
  await transports.get(B)?.close();
  const { value } = await reader.next();
  assert.ok(value.type === "Error");
  assert.equal(value.error.code, "node_lost");
  assert.match(value.error.message, /^Node "node-b" was lost while it served the request/);
  assert.equal(relays.length, 1);
});

Deno.test("a request whose node has just been killed is refused for that, and worth another try", async () => {
  const one = world(say(ACCEPTED, token, FINISH), [B, C]);
  alone(one);
  await one.transports.get(B)?.close();
  const asked = one.gateway.generate(MODEL, PAYLOAD, never);
  const refused = assert.rejects(asked, {
    code: "node_lost",
    retryable: true,
    message: /^Node "node-b" was lost/,
  });
  await settled();
  // Nobody else is waited for.
  one.emit({ type: "InstanceDeleted", instanceId: instanceId("a") });
  await refused;
  await eventually("the tasks are forgotten", () => one.replica.state.tasks.size === 0);
});

Deno.test("a task that failed since its node was lost says so, whoever tells first", async () => {
  for (
    const [errorType, code] of [
      ["node_unreachable", "node_lost"],
      ["group_broken", "group_broken"],
      ["runner_failed", "runner_failed"],
    ] as const
  ) {
    const { gateway, emit, replica } = world(say(ACCEPTED, token));
    const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
    const [taskId] = replica.state.tasks.keys();
    assert.ok(taskId);
    emit({ type: "TaskFailed", taskId, errorType, errorMessage: "It is gone" });
    const last = (await Array.fromAsync(chunks)).at(-1);
    assert.ok(last?.type === "Error");
    assert.deepEqual([last.error.code, last.error.message], [code, "It is gone"]);
  }
});

/** That a command's fate is not known any more. */
const changed = () => new AppError("master_changed", "Cannot tell what became of TextGeneration");

Deno.test("a change of the master is no try: its request still has two", async () => {
  const { gateway, refuse, commands, served } = world((relay, nth) =>
    nth === 1 ? relay.push(errorOf("runner_failed")) : say(ACCEPTED, token, FINISH)(relay)
  );
  refuse(() => commands.length === 1 ? changed() : undefined);
  const { chunks } = await gateway.generate(MODEL, PAYLOAD, never);
  assert.deepEqual(await Array.fromAsync(chunks), [token, FINISH]);
  assert.deepEqual(served, ["a", "b"]);
});

Deno.test("a request is asked anew after so many changes of the master, and no more", async () => {
  const { gateway, refuse, commands, served } = world(say(ACCEPTED, token, FINISH));
  refuse((type) => type === "TextGeneration" ? changed() : undefined);
  await failsWith(gateway.generate(MODEL, PAYLOAD, never), "master_changed");
  const asked = commands.filter((type) => type === "TextGeneration");
  assert.deepEqual([asked.length, served], [MASTER_CHANGES_MAX + 1, []]);
});

Deno.test("what became of a request after a change of the master is what its client is told", async () => {
  const { gateway, refuse, commands } = world(say(ACCEPTED, token, FINISH));
  const notReady = new AppError("not_ready", "Instance a is not ready: its runner is starting");
  const isFirst = () => commands.filter((type) => type === "TextGeneration").length === 1;
  refuse((type) => type !== "TextGeneration" ? undefined : isFirst() ? changed() : notReady);
  await failsWith(gateway.generate(MODEL, PAYLOAD, never), "not_ready");
});

Deno.test("a prompt goes to the nodes of its instance alone, and one of them answers", async () => {
  const { gateway, replica, transports, relays } = world(say(ACCEPTED), [B, C]);
  const generation = await gateway.generate(MODEL, PAYLOAD, never);
  const [taskId] = replica.state.tasks.keys() as Iterable<TaskId>;
  assert.ok(taskId);
  for (const stranger of [B, C]) {
    const opening = GenerationRelay.open(transports.get(stranger) as Transport, A, taskId);
    await failsWith(opening, "cancelled");
  }
  relays[0]?.push(token);
  relays[0]?.push(FINISH);
  assert.deepEqual(await Array.fromAsync(generation.chunks), [token, FINISH]);
});

Deno.test("of several ranks the first alone is given the prompt", async () => {
  const { gateway, replica, transports, emit } = world(() => {}, [B, C]);
  emit({ type: "InstanceDeleted", instanceId: instanceId("a") });
  emit({ type: "InstanceDeleted", instanceId: instanceId("b") });
  emit(created(instanceOf("g", [B, C])));
  emit(reported("g:0", "RunnerReady"), reported("g:1", "RunnerReady"));
  const client = new AbortController();
  const generation = gateway.generate(MODEL, PAYLOAD, client.signal);
  await settled();
  const [taskId] = replica.state.tasks.keys() as Iterable<TaskId>;
  assert.ok(taskId);
  const opened = (nodeId: NodeId) =>
    GenerationRelay.open(transports.get(nodeId) as Transport, A, taskId);
  await failsWith(opened(C), "cancelled");
  const { relay, payload } = await opened(B);
  assert.deepEqual(payload, PAYLOAD);
  for (const chunk of [ACCEPTED, token, FINISH]) relay.push(chunk);
  assert.deepEqual(await Array.fromAsync((await generation).chunks), [token, FINISH]);
});

Deno.test("a worker is told its task only once the master has answered", async () => {
  const { gateway, transports, emit, replica } = world(() => {}, [B, C]);
  const early = Promise.withResolvers<Accepted>();
  const reporter = { followTask: () => {}, forgetTask: () => {} };
  const transport = transports.get(A) as Transport;
  const asked = Promise.withResolvers<Command>();
  const control = {
    submit: (command: Command) => {
      asked.resolve(command);
      return early.promise;
    },
  };
  gateway.stop();
  const deps = { nodeId: A, replica, transport, clock: SYSTEM_CLOCK, control, reporter };
  const late = new Gateway(deps);
  late.start();
  const client = new AbortController();
  const generation = late.generate(MODEL, PAYLOAD, client.signal);
  const command = await asked.promise;
  assert.ok(command.type === "TextGeneration");
  const decision = decide(replica.state, command, decideContext(new Map()));
  emit(...decision.events);
  const [taskId] = replica.state.tasks.keys() as Iterable<TaskId>;
  assert.ok(taskId);
  const stream = await (transports.get(B) as Transport).openStream(A, GENERATION.protocol);
  await stream.send(encodeMessage({ taskId }));
  const prompt = stream[Symbol.asyncIterator]().next();
  const isEarly = await Promise.race([prompt.then(() => true), settled().then(() => false)]);
  assert.equal(isEarly, false);
  early.resolve(accepted(command, 1, decision) as Accepted);
  assert.deepEqual(decodeMessage(GENERATION.payload, (await prompt).value), PAYLOAD);
  client.abort();
  await assert.rejects(generation);
});

/** Whatever was ready to go on has gone on. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 50; turns++) await Promise.resolve();
}
