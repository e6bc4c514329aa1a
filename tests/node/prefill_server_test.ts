/** What a node answers to others that want prompts read, and who hears what of the bytes. */
import assert from "node:assert/strict";
import type { RunnerCommand } from "../../core/frames.ts";
import { NodeId, type TaskId } from "../../core/ids.ts";
import { encodeQuestion, PREFILL } from "../../net/prefill_messages.ts";
import { decodeMessage } from "../../net/topics.ts";
import { PrefillRings } from "../../node/prefill_rings.ts";
import { PREFILLS_MAX, PREFILLS_TOKENS_MAX, PrefillServer } from "../../node/prefill_server.ts";
import type { Rank } from "../../node/rank.ts";
import { instanceId } from "../support/fixtures.ts";

const PEER = NodeId.parse("node-peer");
const LAYER = { kvHeads: 1, keyDim: 16, valueDim: 16 };
const REQUEST = {
  ...{ tokenIds: [1, 2, 3], startPos: 0, stopPos: 2 },
  fingerprint: { weights: "w", layout: "l", kvType: "q8", blockPositions: 2, layers: [LAYER] },
};

class World implements Disposable {
  readonly commands: RunnerCommand[] = [];
  readonly streams: { written: string[]; sent: (bytes: number, isOver: boolean) => void }[] = [];
  readonly rings = new PrefillRings();
  status = "RunnerReady";
  isLinked = true;
  contextTokensMax = 2_048;
  readonly server: PrefillServer;
  #answer: (body: Uint8Array, from: NodeId) => Promise<Uint8Array> = () => assert.fail();
  readonly rank: Rank;
  #ids = 0;

  constructor() {
    const send = (command: RunnerCommand) => void this.commands.push(command);
    const status = () => ({ type: this.status });
    const made = { process: { send }, incarnation: 1, stopping: false };
    this.rank = Object.defineProperties(made, {
      status: { get: status },
      contextTokensMax: { get: () => this.contextTokensMax },
    }) as unknown as Rank;
    this.server = new PrefillServer({
      transport: { handle: (_, handler) => (this.#answer = handler, () => {}) },
      bulk: {
        offerStream: (_to, _ring, sent) => {
          const stream = { written: [] as string[], sent };
          const offerId = `offer-${this.streams.push(stream)}`;
          return {
            offerId,
            written: (bytes, isAll) => void stream.written.push(`${bytes} ${isAll}`),
            withdraw: () => void stream.written.push("withdrawn"),
          };
        },
      },
      rings: this.rings,
      rankOf: (id) => id === instanceId("i") ? this.rank : undefined,
      isLinked: () => this.isLinked,
      newId: () => `id-${++this.#ids}`,
    });
  }

  async ask(id = "i", request = REQUEST) {
    const body = encodeQuestion(instanceId(id), request);
    return decodeMessage(PREFILL.reply, await this.#answer(body, PEER));
  }

  get last(): RunnerCommand | undefined {
    return this.commands.at(-1);
  }

  [Symbol.dispose](): void {
    this.server.close();
    this.rings[Symbol.dispose]();
  }
}

const transferOf = (command: RunnerCommand | undefined): TaskId => {
  assert.ok(command?.type === "Prefill");
  return command.taskId;
};

Deno.test("a prompt goes to the runner, and how far its bytes are to both ends", async () => {
  using world = new World();
  assert.deepEqual(await world.ask(), { offerId: "offer-1" });
  const transferId = transferOf(world.last);
  const [stream] = world.streams;
  world.server.flow(transferId, 100, undefined);
  stream?.sent(60, false);
  assert.ok(world.last?.type === "PrefillFlow" && world.last.bytes === 60 && !world.last.end);
  world.server.flow(transferId, 150, {});
  assert.deepEqual(stream?.written, ["100 false", "150 true"]);
  stream?.sent(150, true);
  assert.ok(world.last?.type === "PrefillFlow" && world.last.end, "the runner forgets it");
  const count = world.commands.length;
  stream?.sent(150, true);
  assert.equal(world.commands.length, count, "once");
});

Deno.test("a runner that refuses or goes withdraws what was offered", async () => {
  using world = new World();
  await world.ask();
  const error = { code: "queue_full" as const, message: "full" };
  world.server.flow(transferOf(world.last), 0, { error });
  await world.ask();
  world.server.drop(world.rank);
  assert.deepEqual(world.streams.map(({ written }) => written), [["withdrawn"], ["withdrawn"]]);
});

Deno.test("a node refuses what it has no rank for, or none that serves, or too many", async () => {
  using world = new World();
  const refused = (id: string, message: RegExp) => assert.rejects(() => world.ask(id), message);
  await refused("other", /it has no rank on this node/);
  world.status = "RunnerLoading";
  await refused("i", /its runner is RunnerLoading/);
  world.status = "RunnerRunning";
  for (let n = 0; n < PREFILLS_MAX; n++) await world.ask();
  await refused("i", /16 prompts of 48 tokens are under way, at most 16 of/);
  assert.equal(world.streams.length, PREFILLS_MAX);
  world.isLinked = false;
  await refused("i", /no link has it prefill for others/);
});

Deno.test("a prompt that no context has room for is refused before its tokens are looked at", async () => {
  using world = new World();
  const ask = (stopPos: number) => world.ask("i", { ...REQUEST, stopPos });
  // It has three tokens: whoever looked at them would find too few.
  await assert.rejects(() => ask(2_048), { code: "context_length_exceeded" });
  await assert.rejects(() => ask(2_047), /3 tokens where 2048 are needed/);
  assert.equal(world.commands.length, 0);
});

Deno.test("the prompts that are under way have as many tokens together as a runner has room for", async () => {
  using world = new World();
  world.contextTokensMax = Infinity;
  const half = PREFILLS_TOKENS_MAX / 2;
  const request = { ...REQUEST, tokenIds: new Array<number>(half).fill(1), stopPos: half - 1 };
  await world.ask("i", request);
  await world.ask("i", request);
  await assert.rejects(() => world.ask(), /2 prompts of 4194304 tokens are under way/);
});
