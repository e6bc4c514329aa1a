import { setImmediate } from "node:timers/promises";
import type { z } from "zod";
import { isTerminal } from "../../../core/chunk.ts";
import { NodeId, TaskId } from "../../../core/ids.ts";
import { MemoryNetwork } from "../../../net/memory.ts";
import { decodeMessage, GENERATION } from "../../../net/topics.ts";
import type { MessageStream, Transport } from "../../../net/transport.ts";
import { GenerationRelay } from "../../../node/generation_relay.ts";
import { eventually, within } from "../../support/eventually.ts";
import { A, B, MODEL } from "../../support/fixtures.ts";
import { mutatedMessage } from "../../support/mutations.ts";
import { Random } from "../../support/random.ts";
import { ANSWER, AskingNode, PAYLOAD } from "./asking_node.ts";
import { type FuzzedPart, Fuzzing, quoted } from "./report.ts";

const STRANGER = NodeId.parse("stranger");
const WORDS: readonly string[] = [A, B, MODEL, "", "\u0000", "Token", "Finish", "__proto__", "1"];

/** Streams of strangers while one answer is under way. */
const STRANGERS = 20;

/** Answers at once, whose worker says something wrong: each waits a second for a last word. */
const WORKERS = 200;

/** However it goes, a client has its last chunk by then. */
const ANSWER_MS_MAX = 15_000;

/** The gateway of A, a worker on B, and a stranger. */
class GenerationWorld implements Disposable {
  readonly node: AskingNode;
  readonly stranger: Transport;
  readonly worker: Transport;
  /** Streams of both that are not over. */
  readonly #open = new Set<MessageStream>();

  constructor() {
    const network = new MemoryNetwork();
    this.node = new AskingNode(network.join(A), B);
    [this.worker, this.stranger] = [network.join(B), network.join(STRANGER)];
  }

  /** What is there once all answers have ended. */
  left(): string {
    return `${this.node.left()}, ${this.#open.size} streams`;
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
    this.#open.add(stream);
    for await (const message of stream) heard(message);
    this.#open.delete(stream);
  }

  [Symbol.dispose](): void {
    this.node[Symbol.dispose]();
  }
}

/** What everybody needs who says something. */
interface Attack {
  readonly world: GenerationWorld;
  readonly random: Random;
  readonly fuzzing: Fuzzing;
}

/**
 * Says mutated messages where generations are carried. A stranger gets no prompt and disturbs no
 * answer; a worker that says something wrong costs its own answer at most, which ends; and a prompt
 * that is none is refused. In the end no task, no client and no stream is left of it.
 */
export async function fuzzGenerations(seed: number, count: number): Promise<FuzzedPart> {
  using world = new GenerationWorld();
  const [random, fuzzing] = [new Random(seed), new Fuzzing(seed)];
  const attack = { world, random, fuzzing };
  const before = world.left();
  while (fuzzing.said < count) {
    await disturb(attack);
    if (random.below(20) === 0) await answerWrongly(attack);
    await promptWrongly(attack);
  }
  await eventually("nothing is left", () => world.left() === before).catch(() => {});
  fuzzing.compare("what generations leave", before, world.left());
  return fuzzing.part();
}

/** Strangers say hello, rightly and wrongly, and answer, while B answers as it should. */
async function disturb(attack: Attack): Promise<void> {
  const { world, fuzzing } = attack;
  world.node.serve = (taskId) => void answerBetween(taskId, attack);
  const got = await within("an answer", world.node.answer(), ANSWER_MS_MAX);
  const expected = JSON.stringify(ANSWER.slice(1));
  if (JSON.stringify(got) !== expected) fuzzing.found(`the client got ${JSON.stringify(got)}`);
}

async function answerBetween(taskId: TaskId, attack: Attack): Promise<void> {
  const { world, fuzzing } = attack;
  await intrude(taskId, attack);
  const stream = await world.worker.openStream(A, GENERATION.protocol);
  const own = { openStream: () => Promise.resolve(stream) };
  const { relay } = await GenerationRelay.open(own, A, taskId);
  void world.hear(stream, (message) => fuzzing.found(`B was told ${quoted(message)}, too`));
  await intrude(taskId, attack);
  for (const chunk of ANSWER) relay.push(chunk);
}

async function intrude(taskId: TaskId, { world, random, fuzzing }: Attack): Promise<void> {
  for (let left = STRANGERS / 2; left > 0; left--) {
    // Whatever a stranger hears is too much.
    const stream = await world.openStream(world.stranger, (message) => {
      fuzzing.found(`a stranger was told ${quoted(message)}`);
    });
    // Who knows the task's id is not its worker for that.
    const isRight = random.below(4) === 0;
    if (isRight) await stream.send(encode({ taskId }));
    else await say(stream, wrong({ taskId }, GENERATION.hello, random), fuzzing);
    await say(stream, wrongChunk(random), fuzzing);
  }
  await setImmediate();
}

/** A mutated message, and whether it can be read all the same. */
interface Wrong {
  readonly bytes: Uint8Array;
  readonly isWellFormed: boolean;
}

function wrong(message: unknown, schema: z.ZodType, random: Random): Wrong {
  const bytes = mutatedMessage(message, random, WORDS);
  return { bytes, isWellFormed: isOf(schema, bytes) };
}

/** Says what is mutated; it counts unless the stream is broken already. */
async function say(
  stream: MessageStream,
  { bytes, isWellFormed }: Wrong,
  fuzzing: Fuzzing,
): Promise<void> {
  try {
    await stream.send(bytes);
  } catch {
    return;
  }
  fuzzing.say(GENERATION.protocol, isWellFormed);
}

function isOf(schema: z.ZodType, message: Uint8Array): boolean {
  try {
    decodeMessage(schema, message);
    return true;
  } catch {
    return false;
  }
}

/** One of the chunks of a right answer, mutated. */
export function wrongChunk(random: Random): Wrong {
  return wrong(random.pick(ANSWER), GENERATION.chunk, random);
}

/** B opens its streams as it should, and says wrong things on them. */
async function answerWrongly(attack: Attack): Promise<void> {
  const { world: { node }, fuzzing } = attack;
  node.serve = (taskId) => void sayWrongly(taskId, attack);
  const answers = Array.from({ length: WORKERS }, () => node.answer());
  const all = await within("the end of all answers", Promise.all(answers), ANSWER_MS_MAX);
  for (const got of all) {
    const last = got.at(-1);
    const hasEnded = last instanceof Error || (last !== undefined && isTerminal(last));
    if (!hasEnded) fuzzing.found(`an answer has no end: ${JSON.stringify(got)}`);
  }
}

async function sayWrongly(
  taskId: TaskId,
  { world, random, fuzzing }: Attack,
): Promise<void> {
  // It is told the prompt, as is right.
  const stream = await world.openStream(world.worker);
  try {
    await stream.send(encode({ taskId }));
    const at = random.below(ANSWER.length);
    for (const [index, chunk] of ANSWER.entries()) {
      if (index !== at) await stream.send(encode(chunk));
      else await say(stream, wrong(chunk, GENERATION.chunk, random), fuzzing);
    }
    stream.end();
  } catch {
    // The gateway has had enough of it.
  }
}

/** A node that says it keeps a prompt hands over something else. */
async function promptWrongly({ world, random, fuzzing }: Attack): Promise<void> {
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
