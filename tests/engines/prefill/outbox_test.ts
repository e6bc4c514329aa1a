/** Keys and values on their way out of ranks that have a part of them each, and are slow. */
import assert from "node:assert/strict";
import { FrameDecoder } from "../../../core/frame_codec.ts";
import type { KvFingerprint } from "../../../core/prefill.ts";
import { RING_BYTES_MIN } from "../../../core/ring.ts";
import type { KvBlock } from "../../../engines/decoder.ts";
import type { KvBytes, PendingBytes } from "../../../engines/prefill/kv_bytes.ts";
import { BYTES_UNDER_WAY_MAX, BytesUnderWay } from "../../../engines/prefill/bytes_under_way.ts";
import { PrefillOutbox } from "../../../engines/prefill/outbox.ts";

const LAYER = { kvHeads: 1, keyDim: 16, valueDim: 16 };

/** An outbox of so many layers, whose blocks come when a test says so. */
class World implements Disposable {
  readonly #dir = Deno.makeTempDirSync();
  readonly outbox: PrefillOutbox;
  /** Layers that were asked for, in order: each is there, or not yet, or never will be. */
  readonly asked: { layer: number; state: "awaited" | "there" | "lost"; isDropped: boolean }[] = [];
  /** Shares that were not given back. */
  shares = 0;
  readonly ring;

  constructor({ layers = 2, blockBytes = 64, ringBytes = RING_BYTES_MIN } = {}) {
    this.ring = { path: `${this.#dir}/ring`, bytes: ringBytes };
    const fingerprint: KvFingerprint = {
      ...{ weights: "w", layout: "l", kvType: "float16", blockPositions: 32 },
      layers: Array.from({ length: layers }, () => LAYER),
    };
    const kv: KvBytes = {
      shape: fingerprint,
      layerBytes: () => blockBytes,
      read: (layer, blocks) => this.#read(layer, blocks.length * blockBytes),
      reserve: () => assert.fail("an outbox takes no blocks"),
      write: () => assert.fail("an outbox writes no blocks"),
      advance: () => assert.fail("an outbox writes no blocks"),
    };
    const ring = this.ring;
    const underWay = new BytesUnderWay();
    this.outbox = new PrefillOutbox({ kv, fingerprint, ring, underWay, startPos: 0, stopPos: 64 });
  }

  #read(layer: number, bytes: number): PendingBytes<Uint8Array<ArrayBuffer>> {
    const one: World["asked"][number] = { layer, state: "awaited", isDropped: false };
    this.asked.push(one);
    return {
      wait: () => one.state !== "awaited",
      collect: () => {
        assert.ok(one.state !== "lost", "out of luck");
        return new Uint8Array(bytes).fill(layer);
      },
      [Symbol.dispose]: () => {
        one.isDropped = true;
      },
    };
  }

  readonly share = (): KvBlock => {
    this.shares++;
    return { ownBytes: 0, [Symbol.dispose]: () => void this.shares-- };
  };

  /** What was written, but for its first word. */
  records(bytes: number): unknown[] {
    const data = Deno.readFileSync(this.ring.path).subarray(0, bytes);
    return new FrameDecoder().push(data).slice(1).map(({ header, body }) => {
      const { type, layer } = header as { type: string; layer?: number };
      return [type, layer, body[0], body.length];
    });
  }

  [Symbol.dispose](): void {
    this.outbox[Symbol.dispose]();
    Deno.removeSync(this.#dir, { recursive: true });
  }
}

Deno.test("layers are written in order, whenever other ranks have brought them", () => {
  using world = new World();
  const { outbox, asked } = world;
  outbox.pump();
  outbox.add(64, world.share);
  assert.equal(outbox.pump(), undefined);
  assert.deepEqual(asked.map(({ layer }) => layer), [0, 1], "both are on their way");
  assert.ok(outbox.hasWork && outbox.wait(0), "there is something to wait for");
  const [first, second] = asked;
  assert.ok(first && second);
  second.state = "there";
  assert.equal(outbox.pump(), undefined);
  assert.equal(world.shares, 2, "they are held until they are written");
  first.state = "there";
  const news = outbox.pump();
  assert.deepEqual(news?.end, {});
  const last = ["Done", undefined, undefined, 0];
  assert.deepEqual(world.records(news?.bytes ?? 0), [
    ["Blocks", 0, 0, 128],
    ["Blocks", 1, 1, 128],
    last,
  ]);
  assert.equal(world.shares, 0);
  assert.ok(!outbox.hasWork && !outbox.wait(0) && outbox.isDone);
});

Deno.test("no more bytes are on their way than other ranks' steps can bear, or there is room for", () => {
  const blockBytes = 1024 * 1024;
  const askedOf = (ringBytes: number) => {
    using world = new World({ layers: 20, blockBytes, ringBytes });
    world.outbox.pump();
    world.outbox.add(64, world.share);
    world.outbox.pump();
    const atOnce = world.asked.length;
    for (const one of world.asked) one.state = "there";
    world.outbox.pump();
    return [atOnce, world.asked.length];
  };
  const most = BYTES_UNDER_WAY_MAX / (2 * blockBytes);
  assert.deepEqual(askedOf(8 * RING_BYTES_MIN), [most, 2 * most]);
  // Beside what was written and not taken yet.
  assert.deepEqual(askedOf(RING_BYTES_MIN), [most, RING_BYTES_MIN / (2 * blockBytes) - 1]);
});

Deno.test("what cannot be had is said, and given up; nothing of it is awaited any more", () => {
  using world = new World({ layers: 3 });
  const { outbox, asked } = world;
  outbox.pump();
  outbox.add(64, world.share);
  outbox.pump();
  const [first, second, third] = asked;
  assert.ok(first && second && third);
  [first.state, second.state] = ["there", "lost"];
  assert.throws(() => outbox.pump(), /out of luck/);
  assert.ok(outbox.giveUp({ code: "internal", message: "out of luck" }));
  assert.ok(third.isDropped);
  assert.equal(world.shares, 0);
  const news = outbox.pump();
  assert.deepEqual(news?.end, {});
  const types = world.records(news?.bytes ?? 0).map((record) => (record as [string])[0]);
  assert.deepEqual(types, ["Blocks", "Failed"]);
});

Deno.test("an outbox that is dropped waits for nothing that is on its way", () => {
  const world = new World();
  world.outbox.pump();
  world.outbox.add(64, world.share);
  world.outbox.pump();
  world[Symbol.dispose]();
  assert.deepEqual(world.asked.map(({ isDropped }) => isDropped), [true, true]);
  assert.equal(world.shares, 0);
});
