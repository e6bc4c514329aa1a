/** What an engine makes of bytes that another sends, whatever they are. */
import assert from "node:assert/strict";
import { AppError } from "../../../core/errors.ts";
import { encodeFrame } from "../../../core/frame_codec.ts";
import type { KvFingerprint, PrefillRecord } from "../../../core/prefill.ts";
import { type Ring, RING_BYTES_MIN } from "../../../core/ring.ts";
import type { SequenceCache } from "../../../engines/decoder.ts";
import { PrefillInbox } from "../../../engines/prefill/inbox.ts";
import { doneBytes, type KvBytes, type PendingBytes } from "../../../engines/prefill/kv_bytes.ts";
import { BYTES_UNDER_WAY_MAX, BytesUnderWay } from "../../../engines/prefill/bytes_under_way.ts";
import { RingWriter } from "../../../engines/prefill/ring_file.ts";

const LAYER = { kvHeads: 1, keyDim: 16, valueDim: 16 };
const FINGERPRINT: KvFingerprint = {
  ...{ weights: "w", layout: "l", kvType: "float16", blockPositions: 32 },
  layers: [LAYER, LAYER],
};

/** Bytes of a block's layer in these tests. */
const BLOCK_BYTES = 4;

/** A cache that only counts, and an inbox of blocks 1 and 2 over it. */
class World implements Disposable {
  readonly #dir = Deno.makeTempDirSync();
  readonly ring: Ring;
  readonly writer: RingWriter;
  readonly written: string[] = [];
  readonly cache = {
    offset: 32,
    [Symbol.dispose]() {},
  };
  readonly inbox: PrefillInbox;
  /** What other ranks have yet to take, where they are slow: each says whether it has, or throws. */
  readonly slow: (() => boolean)[] = [];

  constructor(
    {
      roomBlocks = Infinity,
      isSlow = false,
      ringBytes = RING_BYTES_MIN,
      blockBytes = BLOCK_BYTES,
      underWay = new BytesUnderWay(),
    } = {},
  ) {
    this.ring = { path: `${this.#dir}/ring`, bytes: ringBytes };
    this.writer = new RingWriter(this.ring);
    const kv: KvBytes = {
      shape: FINGERPRINT,
      layerBytes: () => blockBytes,
      read: () => assert.fail("an inbox reads no blocks"),
      reserve: (_, count) => void this.written.push(`reserve ${count}`),
      write: (layer, _, data) => {
        this.written.push(`${layer}: ${data.length > 8 ? data.length : data.join()}`);
        return isSlow ? this.#pending() : doneBytes(undefined);
      },
      advance: (_, count) => void (this.cache.offset += 32 * count),
    };
    this.inbox = new PrefillInbox({
      kv,
      request: { tokenIds: [], startPos: 32, stopPos: 96, fingerprint: FINGERPRINT },
      ...{ cache: this.cache as unknown as SequenceCache, underWay },
      fits: (blocks) => blocks <= roomBlocks,
    });
  }

  #pending(): PendingBytes<void> {
    const at = this.slow.push(() => false) - 1;
    const look = () => this.slow[at]?.() ?? false;
    const isOver = () => {
      try {
        return look();
      } catch {
        return true;
      }
    };
    return { wait: isOver, collect: () => void look(), [Symbol.dispose]: () => {} };
  }

  send(record: PrefillRecord, body?: Uint8Array): void {
    this.writer.write(encodeFrame(record, body));
    this.inbox.arrived(this.writer.written, this.ring, undefined);
  }

  header(change: object = {}): void {
    this.send({
      ...{ type: "Header", fingerprint: FINGERPRINT, positions: [32, 96], layers: [0, 2] },
      ...change,
    });
  }

  blocks(layer: number, first: number, count: number, blockBytes = BLOCK_BYTES): void {
    this.send(
      { type: "Blocks", layer, first, count },
      new Uint8Array(count * blockBytes).fill(layer),
    );
  }

  [Symbol.dispose](): void {
    this.inbox[Symbol.dispose]();
    this.writer[Symbol.dispose]();
    Deno.removeSync(this.#dir, { recursive: true });
  }
}

Deno.test("blocks are a sequence's once all their layers are there", () => {
  using world = new World();
  const { inbox, cache } = world;
  world.header();
  world.blocks(0, 1, 1);
  assert.ok(!inbox.pump(1_000_000));
  assert.equal(cache.offset, 32);
  world.blocks(1, 1, 1);
  assert.ok(!inbox.pump(1_000_000));
  assert.equal(cache.offset, 64);
  assert.ok(!inbox.hasWork);
  world.blocks(0, 2, 1);
  world.blocks(1, 2, 1);
  world.send({ type: "Done", stopPos: 96 });
  assert.ok(inbox.pump(1_000_000));
  assert.equal(inbox.takeNews(), world.writer.written);
  assert.equal(inbox.takeNews(), undefined);
  const once = ["reserve 1", "0: 0,0,0,0", "1: 1,1,1,1"];
  assert.deepEqual(world.written, [...once, ...once]);
});

Deno.test("blocks are a sequence's once all ranks have taken all their layers", () => {
  using world = new World({ isSlow: true });
  const { inbox, cache, slow } = world;
  world.header();
  world.blocks(0, 1, 1);
  world.blocks(1, 1, 1);
  assert.ok(!inbox.pump(1_000_000));
  assert.ok(inbox.hasWork, "there is something to wait for");
  world.blocks(0, 2, 1);
  assert.ok(!inbox.pump(1_000_000));
  assert.equal(slow.length, 2, "the next blocks begin where these end");
  assert.ok(inbox.wait(0));
  slow[0] = () => true;
  assert.ok(!inbox.pump(1_000_000));
  assert.equal(cache.offset, 32);
  slow[1] = () => true;
  assert.ok(!inbox.pump(1_000_000));
  assert.equal(cache.offset, 64);
  assert.deepEqual(world.written.slice(3), ["reserve 1", "0: 0,0,0,0"]);
  world.blocks(1, 2, 1);
  world.send({ type: "Done", stopPos: 96 });
  assert.ok(!inbox.pump(1_000_000), "its last blocks are on their way");
  [slow[2], slow[3]] = [() => true, () => true];
  assert.ok(inbox.pump(1_000_000));
  assert.equal(cache.offset, 96);
  assert.ok(!inbox.wait(0));
});

Deno.test("a rank that cannot take blocks ends it, and the cache has those before them", () => {
  using world = new World({ isSlow: true });
  const { inbox, cache, slow } = world;
  world.header();
  world.blocks(0, 1, 1);
  world.blocks(1, 1, 1);
  inbox.pump(1_000_000);
  [slow[0], slow[1]] = [() => true, () => true];
  world.blocks(0, 2, 1);
  inbox.pump(1_000_000);
  slow[2] = () => {
    throw new AppError("out_of_memory", "none there");
  };
  assert.throws(() => inbox.pump(1_000_000), { code: "out_of_memory" });
  assert.equal(cache.offset, 64);
});

Deno.test("no more bytes are on their way to other ranks than their steps can bear", () => {
  const most = BYTES_UNDER_WAY_MAX;
  const blockBytes = most / 2 + 1;
  using world = new World({ isSlow: true, ringBytes: 4 * most, blockBytes });
  const { inbox, slow } = world;
  world.header();
  world.blocks(0, 1, 1, blockBytes);
  world.blocks(1, 1, 1, blockBytes);
  inbox.pump(4 * most);
  assert.equal(slow.length, 1);
  slow[0] = () => true;
  inbox.pump(4 * most);
  assert.equal(slow.length, 2);
});

Deno.test("all prompts together have so many bytes on their way to other ranks, not each", () => {
  const options = {
    isSlow: true,
    underWay: new BytesUnderWay(),
    ringBytes: 4 * BYTES_UNDER_WAY_MAX,
    blockBytes: BYTES_UNDER_WAY_MAX / 2 + 1,
  };
  using first = new World(options);
  using second = new World(options);
  using third = new World(options);
  for (const world of [first, second, third]) {
    world.header();
    world.blocks(0, 1, 1, options.blockBytes);
    world.inbox.pump(Infinity);
  }
  const asked = () => [first, second, third].map(({ slow }) => slow.length);
  assert.deepEqual(asked(), [1, 0, 0]);
  assert.ok(second.inbox.hasWork, "it goes on once there is room");
  first.slow[0] = () => {
    throw new AppError("out_of_memory", "none there");
  };
  assert.throws(() => first.inbox.pump(Infinity), { code: "out_of_memory" });
  for (const world of [second, third]) world.inbox.pump(Infinity);
  assert.deepEqual(asked(), [1, 1, 0]);
  second.inbox[Symbol.dispose]();
  third.inbox.pump(Infinity);
  assert.deepEqual(asked(), [1, 1, 1], "nobody waits for the second any more");
});

Deno.test("a part of a record waits for the rest, and one record at least is taken at a time", () => {
  using world = new World();
  const { inbox, writer, ring } = world;
  world.header();
  assert.ok(!inbox.pump(1));
  const frame = encodeFrame({ type: "Blocks", layer: 0, first: 1, count: 1 }, new Uint8Array(4));
  const before = writer.written;
  writer.write(frame);
  for (const bytes of [1, 8, frame.length - 1]) {
    inbox.arrived(before + bytes, ring, undefined);
    assert.ok(!inbox.hasWork, `${bytes} bytes`);
  }
  inbox.arrived(before + frame.length, ring, undefined);
  assert.ok(inbox.hasWork);
});

Deno.test("bytes that are no record, and a ring shorter than they are, end it where that is caught", () => {
  using garbage = new World();
  garbage.writer.write(new Uint8Array(64).fill(255));
  garbage.inbox.arrived(64, garbage.ring, undefined);
  assert.ok(garbage.inbox.hasWork);
  assert.throws(() => garbage.inbox.pump(1_000_000), /Cannot read a frame/);
  using short = new World();
  short.inbox.arrived(64, short.ring, undefined);
  assert.ok(short.inbox.hasWork);
  assert.throws(() => short.inbox.pump(1_000_000), /ends before its bytes do/);
  assert.equal(short.cache.offset, 32);
});

const refusals: readonly (readonly [name: string, send: (world: World) => void, RegExp])[] = [
  [
    "other weights",
    (w) => w.header({ fingerprint: { ...FINGERPRINT, weights: "v" } }),
    /weights is v/,
  ],
  ["other positions", (w) => w.header({ positions: [0, 96] }), /positions 0 to 96/],
  ["a part of the layers", (w) => w.header({ layers: [1, 2] }), /layers 1 to 2 alone, all needed/],
  ["a part of the heads", (w) => w.header({ heads: [0, 1] }), /heads 0 to 1 alone/],
  ["blocks before the header", (w) => w.blocks(0, 1, 1), /layer 0 of blocks 1 to 2 is not what/],
  ["a later layer", (w) => (w.header(), w.blocks(1, 1, 1)), /layer 1 of blocks 1 to 2/],
  ["later blocks", (w) => (w.header(), w.blocks(0, 2, 1)), /blocks 2 to 3/],
  ["more blocks than asked for", (w) => (w.header(), w.blocks(0, 1, 3)), /blocks 1 to 4/],
  ["no blocks", (w) => (w.header(), w.blocks(0, 1, 0)), /blocks 1 to 1/],
  [
    "an early end",
    (w) => (w.header(), w.send({ type: "Done", stopPos: 96 })),
    /done at position 32/,
  ],
  [
    "a word of failure",
    (w) => w.send({ type: "Failed", error: { code: "out_of_memory", message: "none left" } }),
    /none left/,
  ],
];

for (const [name, send, message] of refusals) {
  Deno.test(`an inbox refuses ${name}`, () => {
    using world = new World();
    send(world);
    assert.throws(() => world.inbox.pump(1_000_000), message);
    assert.equal(world.cache.offset, 32);
  });
}

Deno.test("an inbox ends without memory, without a last word, and with the reason it is told", () => {
  using full = new World({ roomBlocks: 0 });
  full.header();
  full.blocks(0, 1, 1);
  assert.throws(() => full.inbox.pump(1_000_000), { code: "out_of_memory" });
  using cut = new World();
  cut.inbox.arrived(0, undefined, {});
  assert.throws(() => cut.inbox.pump(1), /ended before its last word/);
  using told = new World();
  told.inbox.arrived(0, undefined, { error: { code: "timed_out", message: "10 s" } });
  assert.throws(() => told.inbox.pump(1), { code: "timed_out", message: "10 s" });
});
