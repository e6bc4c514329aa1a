import { setImmediate } from "node:timers/promises";
import type { z } from "zod";
import { type Chunk, isTerminal } from "../../../core/chunk.ts";
import type { Command, CommandReply } from "../../../core/commands.ts";
import { NodeId, TaskId } from "../../../core/ids.ts";
import { accepted, decide } from "../../../core/master.ts";
import { EMPTY_STATE, encodeState } from "../../../core/state.ts";
import { MemoryNetwork } from "../../../net/memory.ts";
import { decodeMessage, GENERATION } from "../../../net/topics.ts";
import type { MessageStream, Transport } from "../../../net/transport.ts";
import { SYSTEM_CLOCK } from "../../../node/clock.ts";
import { Gateway } from "../../../node/gateway.ts";
import { GenerationRelay } from "../../../node/generation_relay.ts";
import { Replica } from "../../../node/replica.ts";
import { eventually, within } from "../../support/eventually.ts";
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
  /** Streams of both that are not over. */
  readonly open = new Set<MessageStream>();
  readonly #replica: Replica;
  /** Tasks that A's clients wait for. */
  readonly #followed = new Set<TaskId>();
  /** What B does when it gets a task. */
  serve: Serve = () => {};

  constructor() {
    const network = new MemoryNetwork();
    const transport = network.join(A);
    [this.worker, this.stranger] = [network.join(B), network.join(STRANGER)];
    const ready = [created(instanceOf("i", [B])), reported("i:0", "RunnerReady")];
    const replica = this.#replica = new Replica(fold(ready));
    const submit = (command: Command): Promise<Accepted> => {
      const decision = decide(replica.state, command, decideContext(new Map()));
      replica.set(fold(decision.events, replica.state));
      for (const event of decision.events) {
        if (event.type === "TaskCreated") this.serve(this.worker, event.task.taskId);
      }
      const { lastEventAppliedIdx } = replica.state;
      return Promise.resolve(accepted(command, lastEventAppliedIdx, decision) as Accepted);
    };
    const reporter = {
      followTask: (taskId: TaskId) => void this.#followed.add(taskId),
      forgetTask: (taskId: TaskId) => void this.#followed.delete(taskId),
    };
    const deps = { nodeId: A, replica, transport, clock: SYSTEM_CLOCK, reporter };
    this.gateway = new Gateway({ ...deps, control: { submit } });
    this.gateway.start();
  }

  /** What is there once all answers have ended: the state without its count of events. */
  left(): string {
    const { state } = this.#replica;
    const kept = { ...state, lastEventAppliedIdx: 0, lineage: EMPTY_STATE.lineage };
    return `${encodeState(kept)}, ${this.#followed.size} followed, ${this.open.size} streams`;
  }

  /** Opens a stream to A and hears what is said on it, to its end. */
  async openStream(
    from: Transport,
    heard: (message: Uint8Array) => void = () => {},
  ): Promise<MessageStream> {
    const stream = await from.openStream(A, GENERATION.protocol);
    void this.hear(stream, heard);
    return stream;
  }

  /** Hears what A says on a stream, to its end. */
  async hear(stream: MessageStream, heard: (message: Uint8Array) => void): Promise<void> {
    this.open.add(stream);
    for await (const message of stream) heard(message);
    this.open.delete(stream);
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
 * that is none is refused. In the end no task, no client and no stream is left of it.
 */
export async function fuzzGenerations(seed: number, count: number): Promise<FuzzedPart> {
  const world = new GenerationWorld();
  const random = new Random(seed);
  const fuzzing = new Fuzzing(seed);
  const before = world.left();
  while (fuzzing.said < count) {
    await disturb(world, random, fuzzing);
    if (random.below(20) === 0) await answerWrongly(world, random, fuzzing);
    await promptWrongly(world, random, fuzzing);
  }
  await eventually("nothing is left", () => world.left() === before).catch(() => {});
  fuzzing.compare("what generations leave", before, world.left());
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
  await intrude(world, taskId, random, fuzzing);
  const stream = await worker.openStream(A, GENERATION.protocol);
  const own = { openStream: () => Promise.resolve(stream) };
  const { relay } = await GenerationRelay.open(own, A, taskId);
  void world.hear(stream, (message) => fuzzing.found(`B was told ${quoted(message)}, too`));
  await intrude(world, taskId, random, fuzzing);
  for (const chunk of ANSWER) relay.push(chunk);
}

async function intrude(
  world: GenerationWorld,
  taskId: TaskId,
  random: Random,
  fuzzing: Fuzzing,
): Promise<void> {
  for (let left = STRANGERS / 2; left > 0; left--) {
    // Whatever a stranger hears is too much.
    const stream = await world.openStream(world.stranger, (message) => {
      fuzzing.found(`a stranger was told ${quoted(message)}`);
    });
    // Who knows the task's id is not its worker for that.
    const isRight = random.below(4) === 0;
    if (isRight) await stream.send(encode({ taskId }));
    else await say(stream, mutatedMessage({ taskId }, random, WORDS), GENERATION.hello, fuzzing);
    const chunk = mutatedMessage(random.pick(ANSWER), random, WORDS);
    await say(stream, chunk, GENERATION.chunk, fuzzing);
  }
  await setImmediate();
}

/** Says what is mutated; it counts unless the stream is broken already. */
async function say(
  stream: MessageStream,
  message: Uint8Array,
  schema: z.ZodType,
  fuzzing: Fuzzing,
): Promise<void> {
  try {
    await stream.send(message);
  } catch {
    return;
  }
  fuzzing.say(GENERATION.protocol, isOf(schema, message));
}

function isOf(schema: z.ZodType, message: Uint8Array): boolean {
  try {
    decodeMessage(schema, message);
    return true;
  } catch {
    return false;
  }
}

/** B opens its streams as it should, and says wrong things on them. */
async function answerWrongly(
  world: GenerationWorld,
  random: Random,
  fuzzing: Fuzzing,
): Promise<void> {
  world.serve = (worker, taskId) => void sayWrongly(worker, taskId, random, world, fuzzing);
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
  world: GenerationWorld,
  fuzzing: Fuzzing,
): Promise<void> {
  // It is told the prompt, as is right.
  const stream = await world.openStream(worker);
  try {
    await stream.send(encode({ taskId }));
    const at = random.below(ANSWER.length);
    for (const [index, chunk] of ANSWER.entries()) {
      if (index !== at) await stream.send(encode(chunk));
      else await say(stream, mutatedMessage(chunk, random, WORDS), GENERATION.chunk, fuzzing);
    }
    stream.end();
  } catch {
    // The gateway has had enough of it.
  }
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
  fuzzing.say(GENERATION.protocol, isTaken);
  stop();
}

function encode(message: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(message));
}
