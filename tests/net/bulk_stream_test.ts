/** Streams between two nodes of one process, over real sockets on loopback and real ring files. */
import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import { NodeId } from "../../core/ids.ts";
import { type Ring, ringPieces } from "../../core/ring.ts";
import { Bulk, type StreamOffer } from "../../net/bulk.ts";
import type { ReceivedStream } from "../../net/bulk_thread.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { eventually, within } from "../support/eventually.ts";
import { Random } from "../support/random.ts";
import { TempDir } from "../support/temp_dir.ts";

const [A, B] = ["node-a", "node-b"].map((id) => NodeId.parse(id)) as [NodeId, NodeId];
const TO_A = { peer: A, address: "/ip4/127.0.0.1/tcp/1" };

/** Far less than what is sent, so that each ring goes round several times. */
const RING_BYTES = 100_000;
const BYTES = 1_234_567;

const PATIENCE_MS = 20_000;

/** A sends to B through two rings; the test is both of the processes that use them. */
class World implements AsyncDisposable {
  readonly dir: TempDir;
  readonly a: Bulk;
  readonly b: Bulk;
  readonly out: Ring;
  readonly in: Ring;
  sent = 0;
  isOver = false;
  arrived = 0;

  private constructor(dir: TempDir) {
    const [network, newToken] = [new MemoryNetwork(), () => crypto.randomUUID()];
    this.dir = dir;
    [this.a, this.b] = [A, B].map((id) => new Bulk(network.join(id), { newToken })) as [Bulk, Bulk];
    this.out = { path: `${dir.path}/out`, bytes: RING_BYTES };
    this.in = { path: `${dir.path}/in`, bytes: RING_BYTES };
  }

  static async make(): Promise<World> {
    return new World(await TempDir.make());
  }

  offer(): StreamOffer {
    return this.a.offerStream(B, this.out, (bytes, isOver) => {
      this.sent = Math.max(this.sent, bytes);
      this.isOver ||= isOver;
    });
  }

  receive(offerId: string): Promise<ReceivedStream> {
    const arrived = (bytes: number) => void (this.arrived = bytes);
    return this.b.receiveStream(TO_A, offerId, { ring: this.in, arrived });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bulk of [this.a, this.b]) bulk.close();
    await this.dir[Symbol.asyncDispose]();
  }
}

function someBytes(length: number): Uint8Array {
  const random = new Random(3);
  return Uint8Array.from({ length }, () => random.below(256));
}

/** What a runner does that writes: as much as there is room for. */
async function writeAll(world: World, offer: StreamOffer, bytes: Uint8Array): Promise<void> {
  using file = await Deno.open(world.out.path, { write: true, createNew: true });
  for (let written = 0; written < bytes.length;) {
    await eventually("there is room", () => world.sent + RING_BYTES > written || world.isOver);
    const room = world.sent + RING_BYTES - written;
    const count = Math.min(room, bytes.length - written);
    let at = written;
    for (const { offset, length } of ringPieces(RING_BYTES, written, count)) {
      await file.seek(offset, Deno.SeekMode.Start);
      await file.write(bytes.subarray(at, at += length));
    }
    written += count;
    offer.written(written, written === bytes.length);
  }
}

/** What a runner does that reads. */
async function readAll(world: World, stream: ReceivedStream, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await eventually("the first bytes are there", () => world.arrived > 0);
  using file = await Deno.open(world.in.path);
  for (let read = 0; read < length;) {
    await eventually("there is more", () => world.arrived > read);
    const end = world.arrived;
    for (const piece of ringPieces(RING_BYTES, read, end - read)) {
      await file.seek(piece.offset, Deno.SeekMode.Start);
      for (const to = read + piece.length; read < to;) {
        read += await file.read(bytes.subarray(read, to)) ?? 0;
      }
    }
    stream.taken(read);
  }
  return bytes;
}

Deno.test("a stream goes through two rings that are much smaller, whole and in order", async () => {
  await using world = await World.make();
  const bytes = someBytes(BYTES);
  const offer = world.offer();
  const stream = await world.receive(offer.offerId);
  const [, received] = await Promise.all([
    writeAll(world, offer, bytes),
    readAll(world, stream, BYTES),
  ]);
  assert.deepEqual(received, bytes);
  assert.equal(await stream.done, BYTES);
  await eventually("the sender knows", () => world.isOver && world.sent === BYTES);
  await assert.rejects(Deno.stat(world.out.path), Deno.errors.NotFound);
});

Deno.test("whoever does not empty its ring holds the sender back", async () => {
  await using world = await World.make();
  const offer = world.offer();
  const stream = await world.receive(offer.offerId);
  void stream.done.catch(() => {});
  await Deno.writeFile(world.out.path, new Uint8Array(RING_BYTES));
  offer.written(RING_BYTES, false);
  await eventually("the ring is full", () => world.arrived === RING_BYTES);
  const before = world.arrived;
  offer.written(2 * RING_BYTES, false);
  stream.taken(10);
  await eventually("there is room for ten", () => world.arrived > before);
  assert.equal(world.arrived, RING_BYTES + 10);
});

Deno.test("a stream that its writer gives up breaks at once, before or after it is claimed", async () => {
  await using world = await World.make();
  const claimed = world.offer();
  const stream = await world.receive(claimed.offerId);
  claimed.withdraw();
  const broken = (cause: unknown) => cause instanceof AppError || assert.fail(String(cause));
  const ended = stream.done.then((bytes) => assert.equal(bytes, 0), broken);
  await within("the stream to break", ended, 5_000);
  const other = world.offer();
  other.withdraw();
  await within("the refusal", assert.rejects(world.receive(other.offerId), /nothing/), PATIENCE_MS);
});

Deno.test("a reader that wants no more is gone for the sender", async () => {
  await using world = await World.make();
  const offer = world.offer();
  const stream = await world.receive(offer.offerId);
  await Deno.writeFile(world.out.path, new Uint8Array(1_000));
  offer.written(1_000, false);
  await eventually("something is there", () => world.arrived === 1_000);
  stream.cancel();
  await assert.rejects(
    stream.done,
    (cause) => cause instanceof AppError && cause.code === "cancelled",
  );
  await eventually("the sender knows", () => world.isOver);
});

Deno.test("what was written before anybody came for it is sent, all of it", async () => {
  await using world = await World.make();
  const offer = world.offer();
  await Deno.writeFile(world.out.path, new Uint8Array(2_000), { createNew: true });
  offer.written(2_000, true);
  const stream = await world.receive(offer.offerId);
  assert.equal(await within("all of it", stream.done, PATIENCE_MS), 2_000);
});

Deno.test("whoever comes for a stream hears why there is none, before and after it has begun", async () => {
  await using world = await World.make();
  const error = { code: "queue_full" as const, message: "8 prompts are under way" };
  const refused = world.offer();
  refused.withdraw(error);
  await assert.rejects(world.receive(refused.offerId), error);
  const begun = world.offer();
  const stream = await world.receive(begun.offerId);
  begun.withdraw(error);
  await within("the refusal", assert.rejects(stream.done, error), PATIENCE_MS);
});
