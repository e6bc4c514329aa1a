import { setImmediate } from "node:timers/promises";
import { type Chunk, isTerminal } from "../../../core/chunk.ts";
import type { Command, CommandReply } from "../../../core/commands.ts";
import { NodeId, TaskId } from "../../../core/ids.ts";
import { accepted, decide } from "../../../core/master.ts";
import { MemoryNetwork } from "../../../net/memory.ts";
import { GENERATION } from "../../../net/topics.ts";
import type { MessageStream, Transport } from "../../../net/transport.ts";
import { SYSTEM_CLOCK } from "../../../node/clock.ts";
import { Gateway } from "../../../node/gateway.ts";
import { GenerationRelay } from "../../../node/generation_relay.ts";
import { Replica } from "../../../node/replica.ts";
import { within } from "../../support/eventually.ts";
import {
  A,
  B,
  created,
  decideContext,
  fold,
  instanceOf,
  MODEL,
  reported,
} from "../../support/fixtures.ts";
import { mutatedMessage } from "../../support/mutations.ts";
import { Random } from "../../support/random.ts";
import { type FuzzedPart, Fuzzing, quoted } from "./report.ts";

const STRANGER = NodeId.parse("stranger");
const PAYLOAD = {
  messages: [{ role: "user" as const, content: "a secret" }],
  sampling: { temperature: 0.5 },
  stop: ["x"],
  seed: "1",
};
const ANSWER: readonly Chunk[] = [
  { type: "Accepted", promptTokens: 3 },
  { type: "Token", text: "hi", tokenId: 0 },
  {
    type: "Finish",
    finishReason: "stop",
    usage: { promptTokens: 3, completionTokens: 1, cachedTokens: 0 },
    stats: { promptTokensPerSecond: 0, generationTokensPerSecond: 0, peakMemoryBytes: 0 },
  },
];
const WORDS: readonly string[] = [A, B, MODEL, "", "\u0000", "Token", "Finish", "__proto__", "1"];

/** Streams of strangers while one answer is under way. */
const STRANGERS = 20;

/** Answers at once, whose worker says something wrong: each waits a second for a last word. */
const WORKERS = 200;

/** However it goes, a client has its last chunk by then. */
const ANSWER_MS_MAX = 15_000;

type Accepted = Extract<CommandReply, { type: "CommandAccepted" }>;
type Serve = (worker: Transport, taskId: TaskId) => void;

/** The gateway of A, with a ready instance on B, a master of a few lines, and a stranger. */
class GenerationWorld {
  readonly gateway: Gateway;
  readonly stranger: Transport;
  readonly worker: Transport;
  /** What B does when it gets a task. */
  serve: Serve = () => {};

  constructor() {
    const network = new MemoryNetwork();
    const transport = network.join(A);
    [this.worker, this.stranger] = [network.join(B), network.join(STRANGER)];
    const ready = [created(instanceOf("i", [B])), reported("i:0", "RunnerReady")];
    const replica = new Replica(fold(ready));
    const submit = (command: Command): Promise<Accepted> => {
      const decision = decide(replica.state, command, decideContext(new Map()));
      replica.set(fold(decision.events, replica.state));
      for (const event of decision.events) {
        if (event.type === "TaskCreated") this.serve(this.worker, event.task.taskId);
      }
      const { lastEventAppliedIdx } = replica.state;
      return Promise.resolve(accepted(command, lastEventAppliedIdx, decision) as Accepted);
    };
    const reporter = { followTask: () => {}, forgetTask: () => {} };
    const deps = { nodeId: A, replica, transport, clock: SYSTEM_CLOCK, reporter };
    this.gateway = new Gateway({ ...deps, control: { submit } });
    this.gateway.start();
  }

  /** What a client gets; the last is a last chunk, or an error. */
  async answer(): Promise<readonly (Chunk | Error)[]> {
    try {
      const never = new AbortController().signal;
      const { chunks } = await this.gateway.generate(MODEL, PAYLOAD, never);
      return await Array.fromAsync(chunks);
    } catch (cause) {
      return [cause as Error];
    }
  }
}

/**
 * Says mutated messages where generations are carried. A stranger gets no prompt and disturbs no
 * answer; a worker that says something wrong costs its own answer at most, which ends; and a prompt
 * that is none is refused.
 */
export async function fuzzGenerations(seed: number, count: number): Promise<FuzzedPart> {
  const world = new GenerationWorld();
  const random = new Random(seed);
  const fuzzing = new Fuzzing(seed);
  while (fuzzing.said < count) {
    await disturb(world, random, fuzzing);
    if (random.below(20) === 0) await answerWrongly(world, random, fuzzing);
    await promptWrongly(world, random, fuzzing);
  }
  world.gateway.stop();
  return fuzzing.part();
}

/** Strangers say hello, rightly and wrongly, and answer, while B answers as it should. */
async function disturb(world: GenerationWorld, random: Random, fuzzing: Fuzzing): Promise<void> {
  world.serve = (worker, taskId) => void answerBetween(worker, taskId, random, world, fuzzing);
  const got = await within("an answer", world.answer(), ANSWER_MS_MAX);
  const expected = JSON.stringify(ANSWER.slice(1));
  if (JSON.stringify(got) !== expected) fuzzing.found(`the client got ${JSON.stringify(got)}`);
}

async function answerBetween(
  worker: Transport,
  taskId: TaskId,
  random: Random,
  world: GenerationWorld,
  fuzzing: Fuzzing,
): Promise<void> {
  await intrude(world.stranger, taskId, random, fuzzing);
  const { relay } = await GenerationRelay.open(worker, A, taskId);
  await intrude(world.stranger, taskId, random, fuzzing);
  for (const chunk of ANSWER) relay.push(chunk);
}

async function intrude(
  stranger: Transport,
  taskId: TaskId,
  random: Random,
  fuzzing: Fuzzing,
): Promise<void> {
  for (let left = STRANGERS / 2; left > 0; left--) {
    const stream = await stranger.openStream(A, GENERATION.protocol);
    void listen(stream, fuzzing);
    // Who knows the task's id is not its worker for that.
    const isRight = random.below(4) === 0;
    const hello = isRight ? encode({ taskId }) : mutatedMessage({ taskId }, random, WORDS);
    fuzzing.say(isRight);
    for (const message of [hello, mutatedMessage(random.pick(ANSWER), random, WORDS)]) {
      await stream.send(message).catch(() => {});
    }
  }
  await setImmediate();
}

/** Whatever a stranger hears is too much. */
async function listen(stream: MessageStream, fuzzing: Fuzzing): Promise<void> {
  for await (const message of stream) fuzzing.found(`a stranger was told ${quoted(message)}`);
}

/** B opens its streams as it should, and says wrong things on them. */
async function answerWrongly(
  world: GenerationWorld,
  random: Random,
  fuzzing: Fuzzing,
): Promise<void> {
  world.serve = (worker, taskId) => void sayWrongly(worker, taskId, random, fuzzing);
  const answers = Array.from({ length: WORKERS }, () => world.answer());
  const all = await within("the end of all answers", Promise.all(answers), ANSWER_MS_MAX);
  for (const got of all) {
    const last = got.at(-1);
    const hasEnded = last instanceof Error || (last !== undefined && isTerminal(last));
    if (!hasEnded) fuzzing.found(`an answer has no end: ${JSON.stringify(got)}`);
  }
}

async function sayWrongly(
  worker: Transport,
  taskId: TaskId,
  random: Random,
  fuzzing: Fuzzing,
): Promise<void> {
  const stream = await worker.openStream(A, GENERATION.protocol);
  try {
    await stream.send(encode({ taskId }));
    const at = random.below(ANSWER.length);
    for (const [index, chunk] of ANSWER.entries()) {
      await stream.send(index === at ? mutatedMessage(chunk, random, WORDS) : encode(chunk));
    }
    stream.end();
  } catch {
    // The gateway has had enough of it.
  }
  fuzzing.say(false);
}

/** A node that says it keeps a prompt hands over something else. */
async function promptWrongly(
  world: GenerationWorld,
  random: Random,
  fuzzing: Fuzzing,
): Promise<void> {
  const message = mutatedMessage(PAYLOAD, random, WORDS);
  const stop = world.stranger.handleStream(GENERATION.protocol, (stream) => {
    void stream.send(message).then(() => stream.end()).catch(() => {});
  });
  const taskId = TaskId.parse(`t-${fuzzing.said}`);
  const opening = GenerationRelay.open(world.worker, STRANGER, taskId);
  const isTaken = await within("a prompt", opening, ANSWER_MS_MAX).then(
    ({ relay }) => {
      relay.close();
      return true;
    },
    (cause) => {
      if (!(cause instanceof Error) || /^Waited/.test(cause.message)) {
        fuzzing.found(`the prompt ${quoted(message)} is answered by ${cause}`);
      }
      return false;
    },
  );
  fuzzing.say(isTaken);
  stop();
}

function encode(message: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(message));
}
