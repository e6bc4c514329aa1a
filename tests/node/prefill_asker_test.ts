/** What becomes of a prompt that another node is asked to read, and of the file that its bytes fill. */
import assert from "node:assert/strict";
import type { RunnerCommand } from "../../core/frames.ts";
import { NodeId, TaskId } from "../../core/ids.ts";
import type { PrefillSource, RingFile } from "../../core/prefill.ts";
import { EMPTY_STATE } from "../../core/state.ts";
import { linkKey } from "../../core/telemetry.ts";
import { encodeMessage } from "../../net/topics.ts";
import { PrefillAsker } from "../../node/prefill_asker.ts";
import { PrefillRings } from "../../node/prefill_rings.ts";
import type { Rank } from "../../node/rank.ts";
import { instanceId } from "../support/fixtures.ts";

const [SELF, PEER] = [NodeId.parse("node-self"), NodeId.parse("node-peer")];
const SOURCE = { instanceId: instanceId("i"), nodeId: PEER };
const TASK = TaskId.parse("task");
const LAYER = { kvHeads: 1, keyDim: 16, valueDim: 16 };
const REQUEST = {
  ...{ tokenIds: [1, 2, 3], startPos: 0, stopPos: 2 },
  fingerprint: { weights: "w", layout: "l", kvType: "q8", blockPositions: 2, layers: [LAYER] },
};

/** A stream that a test moves: it makes its file as it begins. */
class World implements Disposable {
  readonly commands: RunnerCommand[] = [];
  readonly rings = new PrefillRings();
  readonly asker: PrefillAsker;
  readonly rank: Rank;
  readonly begun = Promise.withResolvers<void>();
  readonly done = Promise.withResolvers<number>();
  arrived: (bytes: number) => void = () => assert.fail("nothing is received");
  ring: RingFile | undefined;
  isCancelled = false;
  taken = 0;
  #ids = 0;

  constructor() {
    const process = { send: (command: RunnerCommand) => void this.commands.push(command) };
    const watch = () => {};
    this.rank = { process, incarnation: 1, awaited: new Set(), watch } as unknown as Rank;
    const address = "/ip4/10.0.0.2/tcp/1";
    const edge = { type: "SocketConnection" as const, sinkMultiaddr: address };
    this.asker = new PrefillAsker({
      nodeId: SELF,
      transport: {
        links: () => [{ peer: PEER, address }] as never,
        request: () => Promise.resolve(encodeMessage({ offerId: "offer" })),
      },
      bulk: {
        receiveStream: (_link, _offer, { ring, arrived }) => {
          Deno.writeFileSync(ring.path, new Uint8Array(8));
          Object.assign(this, { ring, arrived });
          const { begun, done } = this;
          return Promise.resolve({
            get done() {
              begun.resolve();
              return done.promise;
            },
            taken: (bytes: number) => void (this.taken = bytes),
            cancel: () => void (this.isCancelled = true),
          });
        },
      },
      rings: this.rings,
      telemetry: () => ({
        links: new Map([[linkKey(SELF, PEER, edge), { bandwidthBitsPerSecond: 1e9 }]]),
      }),
      newId: () => `id-${++this.#ids}`,
    });
  }

  ask(...[source]: [PrefillSource | undefined]): Promise<void> {
    return this.asker.ask(this.rank, { taskId: TASK, request: REQUEST }, source);
  }

  /** What the runner was told last. */
  get last(): Extract<RunnerCommand, { type: "PrefillFlow" }> {
    const last = this.commands.at(-1);
    assert.ok(last?.type === "PrefillFlow");
    return last;
  }

  get hasFile(): boolean {
    assert.ok(this.ring);
    return [...Deno.readDirSync(this.ring.path.replace(/\/[^/]*$/, ""))].length > 0;
  }

  [Symbol.dispose](): void {
    this.rings[Symbol.dispose]();
  }
}

Deno.test("a runner hears where the bytes of its prompt are, how many, and that these are all", async () => {
  using world = new World();
  const asked = world.ask(SOURCE);
  await world.begun.promise;
  assert.ok(world.rank.awaited.has(TASK));
  world.arrived(100);
  assert.deepEqual([world.last.bytes, world.last.ring, world.last.end], [
    100,
    world.ring,
    undefined,
  ]);
  world.asker.flow(TASK, 60, undefined);
  assert.equal(world.taken, 60);
  world.done.resolve(150);
  await asked;
  assert.deepEqual([world.last.bytes, world.last.end], [150, {}]);
  assert.ok(!world.rank.awaited.has(TASK));
  assert.ok(world.hasFile, "the runner has yet to open it");
});

Deno.test("no file is left of a stream that broke before its runner knew of it", async () => {
  using world = new World();
  const asked = world.ask(SOURCE);
  await world.begun.promise;
  world.done.reject(new Error("broken"));
  await asked;
  assert.match(world.last.end?.error?.message ?? "", /broken/);
  assert.ok(!world.hasFile);
});

Deno.test("of a stream that broke later, the runner has what came", async () => {
  using world = new World();
  const asked = world.ask(SOURCE);
  await world.begun.promise;
  world.arrived(100);
  world.done.reject(new Error("broken"));
  await asked;
  assert.ok(world.last.end?.error);
  assert.ok(world.hasFile);
});

Deno.test("a runner that wants no more, or is gone, ends the stream, and hears no more of it", async () => {
  for (const end of ["flow", "drop"] as const) {
    using world = new World();
    const asked = world.ask(SOURCE);
    await world.begun.promise;
    world.arrived(100);
    const count = world.commands.length;
    if (end === "flow") world.asker.flow(TASK, 0, {});
    else world.asker.drop(world.rank);
    assert.ok(world.isCancelled && !world.rank.awaited.has(TASK));
    world.done.reject(new Error("cancelled"));
    await asked;
    assert.equal(world.commands.length, count);
    assert.ok(!world.hasFile);
  }
});

Deno.test("without a source, or a way to it, a prompt is read where it is", async () => {
  using world = new World();
  await world.ask(undefined);
  assert.match(world.last.end?.error?.message ?? "", /No node is there any more/);
  const other = { ...SOURCE, nodeId: NodeId.parse("elsewhere") };
  await world.ask(other);
  assert.equal(world.last.end?.error?.code, "node_unreachable");
  assert.equal(world.asker.rates(EMPTY_STATE, other), undefined);
});

Deno.test("a runner that asks while it is being stopped leaves no file", async () => {
  using world = new World();
  Object.assign(world.rank, { stopping: true });
  await world.ask(SOURCE);
  assert.equal(world.ring, undefined, "nothing is received");
  assert.deepEqual(world.commands, []);
});

Deno.test("a runner hears that there is no place for the bytes of its prompt", async () => {
  using world = new World();
  world.rings.next = () => {
    throw new Error("No space left on device");
  };
  await world.ask(SOURCE);
  assert.match(world.last.end?.error?.message ?? "", /No space left/);
});
