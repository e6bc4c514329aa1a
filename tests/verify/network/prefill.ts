import { AppError, type ErrorCode } from "../../../core/errors.ts";
import { decodePrefix, FrameDecoder } from "../../../core/frame_codec.ts";
import { FRAME_PREFIX_BYTES, RunnerCommand } from "../../../core/frames.ts";
import { NodeId, TaskId } from "../../../core/ids.ts";
import { Bulk } from "../../../net/bulk.ts";
import { MemoryNetwork } from "../../../net/memory.ts";
import {
  decodeQuestion,
  encodeQuestion,
  PREFILL,
  tokensOf,
} from "../../../net/prefill_messages.ts";
import { decodeMessage } from "../../../net/topics.ts";
import type { Transport } from "../../../net/transport.ts";
import { PrefillAsker } from "../../../node/prefill_asker.ts";
import { PrefillRings } from "../../../node/prefill_rings.ts";
import { PREFILLS_MAX, PrefillServer } from "../../../node/prefill_server.ts";
import type { Rank } from "../../../node/rank.ts";
import { A, B, instanceId } from "../../support/fixtures.ts";
import { mutatedBytes, mutatedMessage } from "../../support/mutations.ts";
import { Random } from "../../support/random.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { type FuzzedPart, Fuzzing, quoted } from "./report.ts";

/** Instances of A: one that a link has read for others, one without a link, one that loads. */
const [LINKED, UNLINKED, LOADING] = ["i", "u", "l"];

const CONTEXT_TOKENS = 64;
const TIMEOUT = { timeoutMs: 10_000 };
const WORDS: readonly string[] = [A, B, "", "\u0000", LINKED, UNLINKED, LOADING, "x", "__proto__"];

/** One in so many messages is an answer to A, whose own runner asks. */
const ANSWER_EVERY = 8;

const REQUEST = {
  ...{ tokenIds: Array.from({ length: 33 }, (_, id) => id), startPos: 0, stopPos: 32 },
  fingerprint: {
    ...{ weights: "w", layout: "l", kvType: "q8", blockPositions: 16 },
    layers: [{ kvHeads: 1, keyDim: 16, valueDim: 16 }],
  },
};

/** A node of which others want prompts read, and which wants its own read by B. */
class PrefillWorld implements AsyncDisposable {
  /** What the runners of A were told. */
  readonly told: RunnerCommand[] = [];
  readonly asker: PrefillAsker;
  readonly rank = this.#rank("RunnerReady");
  readonly server: PrefillServer;
  readonly other: Transport;
  readonly #dir: TempDir;
  readonly #bulks: readonly Bulk[];
  readonly #rings: PrefillRings;
  #ids = 0;

  constructor(dir: TempDir) {
    this.#dir = dir;
    const network = new MemoryNetwork({ addressOf: () => "/ip4/127.0.0.1/tcp/1" });
    const transport = network.join(A);
    this.other = network.join(B);
    const newId = () => `id-${++this.#ids}`;
    this.#bulks = [transport, this.other].map((one) => new Bulk(one, { newToken: newId }));
    const [bulk] = this.#bulks as [Bulk];
    const rings = this.#rings = new PrefillRings({ dirs: [dir.path], freeBytes: () => 2 ** 40 });
    const ranks = new Map([
      ...[LINKED, UNLINKED].map((id) => [id, this.rank] as const),
      [LOADING, this.#rank("RunnerLoading")],
    ]);
    this.server = new PrefillServer({
      ...{ transport, bulk, rings, newId },
      rankOf: (id) => ranks.get(id),
      isLinked: (id) => id !== UNLINKED,
    });
    const telemetry = () => ({ links: new Map() });
    this.asker = new PrefillAsker({ ...{ nodeId: A, transport, bulk, rings, newId }, telemetry });
  }

  /** What messages must not change: tasks that wait for others, and files. */
  left(): string {
    const files = [...Deno.readDirSync(this.#dir.path)].flatMap(({ name, isDirectory }) =>
      isDirectory ? [...Deno.readDirSync(`${this.#dir.path}/${name}`)].map((one) => one.name) : name
    );
    return JSON.stringify({ files, awaited: [...this.rank.awaited] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.close();
    for (const bulk of this.#bulks) bulk.close();
    this.#rings[Symbol.dispose]();
    await this.#dir[Symbol.asyncDispose]();
  }

  /** As much of a rank as is asked of it. */
  #rank(type: string): Rank {
    const send = (command: RunnerCommand) => void this.told.push(command);
    return {
      ...{ process: { send }, incarnation: 1, stopping: false, status: { type } },
      ...{ contextTokensMax: CONTEXT_TOKENS, awaited: new Set(), watch: () => {} },
    } as unknown as Rank;
  }
}

/**
 * Asks for prompts wrongly, and answers such questions wrongly. A question that is none, or is for
 * an instance that reads for nobody, is refused and tells no runner anything; one that can still be
 * read is a right one, and reaches the runner as it was said. In the end nothing is under way.
 */
export async function fuzzPrefill(seed: number, count: number): Promise<FuzzedPart> {
  await using world = new PrefillWorld(await TempDir.make());
  const random = new Random(seed);
  const fuzzing = new Fuzzing(seed);
  const before = world.left();
  while (fuzzing.said < count) {
    if (random.below(ANSWER_EVERY) === 0) await answerWrongly(world, random, fuzzing);
    else await askWrongly(world, mutatedQuestion(random), fuzzing);
  }
  fuzzing.compare("what prefills leave", before, world.left());
  await requireAllPlaces(world, fuzzing);
  return fuzzing.part();
}

/** Of a frame: any of its bytes, its header, its lengths, or its tokens. */
function mutatedQuestion(random: Random): Uint8Array {
  const { tokenIds: _, ...request } = REQUEST;
  const id = random.pick([LINKED, LINKED, UNLINKED, LOADING]);
  const right = encodeQuestion(instanceId(id), REQUEST);
  const header = { instanceId: id, request };
  const bodyAt = FRAME_PREFIX_BYTES + new TextEncoder().encode(JSON.stringify(header)).length;
  const body = right.subarray(bodyAt);
  switch (random.below(4)) {
    case 0:
      return mutatedBytes(right, random);
    case 1:
      return framed(mutatedMessage(header, random, WORDS), body);
    case 2:
      return framed(right.subarray(FRAME_PREFIX_BYTES, bodyAt), mutatedBytes(body, random));
    default: {
      const lengths = mutatedBytes(right.subarray(0, FRAME_PREFIX_BYTES), random);
      return Uint8Array.from([...lengths, ...right.subarray(FRAME_PREFIX_BYTES)]);
    }
  }
}

/** A frame whose header need not be JSON. */
function framed(header: Uint8Array, body: Uint8Array): Uint8Array {
  const prefix = new DataView(new ArrayBuffer(FRAME_PREFIX_BYTES));
  prefix.setUint32(0, header.length, true);
  prefix.setUint32(4, body.length, true);
  return Uint8Array.from([...new Uint8Array(prefix.buffer), ...header, ...body]);
}

/** What a question has to be answered by; undefined: by an offer. */
function refusalOf(body: Uint8Array): ErrorCode | undefined {
  try {
    const question = decodeQuestion(body);
    if (question.instanceId === LOADING) return "not_ready";
    if (question.instanceId !== LINKED) return "not_found";
    if (question.request.stopPos >= CONTEXT_TOKENS) return "context_length_exceeded";
    tokensOf(question);
    return undefined;
  } catch {
    return "invalid_request";
  }
}

async function askWrongly(
  { other, told, server }: PrefillWorld,
  body: Uint8Array,
  fuzzing: Fuzzing,
): Promise<void> {
  const refusal = refusalOf(body);
  told.length = 0;
  fuzzing.say(PREFILL.protocol, refusal !== "invalid_request");
  const answer = await other.request(A, PREFILL.protocol, body, TIMEOUT).then(
    () => undefined,
    (cause) => cause instanceof AppError ? cause.code : String(cause),
  );
  if (answer !== refusal) fuzzing.found(`${quoted(body)} is answered by ${answer ?? "an offer"}`);
  if (answer !== undefined) {
    if (told.length > 0) fuzzing.found(`a runner was told of ${quoted(body)}`);
    return;
  }
  const [command] = told;
  if (command?.type !== "Prefill" || told.length > 1 || !RunnerCommand.safeParse(command).success) {
    return fuzzing.found(`the runner was told ${JSON.stringify(told)} of ${quoted(body)}`);
  }
  if (!isFrameOf(command.request.tokenIds, body)) {
    fuzzing.found(`the runner was told other tokens than those of ${quoted(body)}`);
  }
  // As a runner does that cannot read it: then its place is free again.
  server.flow(command.taskId, 0, { error: { code: "invalid_request", message: "no" } });
}

/** Whether a frame, as the pipes of runners have it, is all there is, and holds these tokens. */
function isFrameOf(tokenIds: readonly number[], bytes: Uint8Array): boolean {
  try {
    const [frame] = new FrameDecoder().push(bytes);
    const isAll = decodePrefix(bytes.subarray(0, FRAME_PREFIX_BYTES)) === bytes.length;
    const found = Uint8Array.from(frame?.body ?? []);
    return isAll && String(new Uint32Array(found.buffer)) === String(tokenIds);
  } catch {
    return false;
  }
}

/** A's runner wants a prompt read, and B says something wrong: the runner reads it by itself. */
async function answerWrongly(
  { asker, rank, other, told }: PrefillWorld,
  random: Random,
  fuzzing: Fuzzing,
): Promise<void> {
  // Nothing is offered under this id, or any other.
  const reply = mutatedMessage({ offerId: "offer" }, random, WORDS);
  const stop = other.handle(PREFILL.protocol, () => Promise.resolve(reply));
  told.length = 0;
  fuzzing.say(PREFILL.protocol, isReply(reply));
  const taskId = TaskId.parse(`asked-${fuzzing.said}`);
  const source = { instanceId: instanceId("j"), nodeId: NodeId.parse(B) };
  await asker.ask(rank, { taskId, request: REQUEST }, source);
  stop();
  const ends = told.filter((one) => one.type === "PrefillFlow" && one.end?.error && !one.ring);
  if (ends.length !== 1 || told.length !== 1) {
    fuzzing.found(`${quoted(reply)} told the runner ${JSON.stringify(told)}`);
  }
}

function isReply(bytes: Uint8Array): boolean {
  try {
    decodeMessage(PREFILL.reply, bytes);
    return true;
  } catch {
    return false;
  }
}

/** All prompts that may be under way at once can be: nothing of the past takes a place. */
async function requireAllPlaces({ other }: PrefillWorld, fuzzing: Fuzzing): Promise<void> {
  const ask = () =>
    other.request(A, PREFILL.protocol, encodeQuestion(instanceId("i"), REQUEST), TIMEOUT);
  for (let place = 0; place < PREFILLS_MAX; place++) {
    await ask().catch((cause) => fuzzing.found(`no place ${place} for a prompt: ${cause}`));
  }
  const full = await ask().catch((cause) => cause);
  if (!(full instanceof AppError && full.code === "queue_full")) fuzzing.found("a place too many");
}
