/** Bulk transfers between two nodes of one process, over real sockets on loopback. */
import assert from "node:assert/strict";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { NodeId } from "../../core/ids.ts";
import { Bulk } from "../../net/bulk.ts";
import { newCertificate } from "../../net/bulk_certificate.ts";
import {
  BLOCK_BYTES,
  BULK,
  BULK_SERVER_NAME,
  type BulkGrant,
  GRANTS_PER_PEER_MAX,
  MEASURE_MS_MAX,
  OFFERS_MAX,
} from "../../net/bulk_messages.ts";
import { encodePreface } from "../../net/bulk_preface.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { decodeMessage, encodeMessage } from "../../net/topics.ts";
import type { Transport } from "../../net/transport.ts";
import { within } from "../support/eventually.ts";
import { Random } from "../support/random.ts";
import { TempDir } from "../support/temp_dir.ts";
import { Throttle } from "../support/throttle.ts";

const [A, B, C] = ["node-a", "node-b", "node-c"].map((id) => NodeId.parse(id)) as [
  NodeId,
  NodeId,
  NodeId,
];
const TO_A = { peer: A, address: "/ip4/127.0.0.1/tcp/1" };

/** Some blocks and a piece of one. */
const BYTES = 5 * BLOCK_BYTES + 4_321;

const newToken = () => crypto.randomUUID();

/** Three nodes; A is the one that has something. */
class World implements Disposable {
  readonly network = new MemoryNetwork();
  readonly transports = [A, B, C].map((id) => this.network.join(id)) as [
    Transport,
    Transport,
    Transport,
  ];
  readonly a: Bulk;
  readonly b: Bulk;
  readonly c: Bulk;

  constructor(grantLifetimeMs?: number) {
    const [a, b, c] = this.transports;
    this.a = new Bulk(a, { newToken, grantLifetimeMs });
    this.b = new Bulk(b, { newToken });
    this.c = new Bulk(c, { newToken });
  }

  /** What A answers when B asks for a transfer. */
  async grant(request: unknown): Promise<BulkGrant> {
    const options = { timeoutMs: 10_000 };
    const body = encodeMessage(request);
    const reply = await this.transports[1].request(A, BULK.protocol, body, options);
    return decodeMessage(BULK.grant, reply);
  }

  [Symbol.dispose](): void {
    for (const bulk of [this.a, this.b, this.c]) bulk.close();
  }
}

function someBytes(length: number, seed = 1): Uint8Array {
  const random = new Random(seed);
  return Uint8Array.from({ length }, () => random.below(256));
}

async function fails(promise: Promise<unknown>, code: ErrorCode, message: RegExp): Promise<void> {
  await assert.rejects(within("the transfer to fail", promise, 10_000), (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, message);
    return true;
  });
}

/** Collects blocks. */
function collector(): { take: (block: Uint8Array) => void; all: () => Uint8Array } {
  const blocks: Uint8Array[] = [];
  return {
    take: (block) => void blocks.push(block.slice()),
    all: () => new Uint8Array(blocks.flatMap((block) => [...block])),
  };
}

/** All that a connection to A with this preface brings. */
async function showing(grant: BulkGrant, preface: Uint8Array): Promise<number> {
  const tcp = await Deno.connect({ hostname: "127.0.0.1", port: grant.port });
  using tls = await Deno.startTls(tcp, {
    hostname: BULK_SERVER_NAME,
    caCerts: [grant.certificatePem],
  });
  await tls.write(preface);
  await tls.closeWrite();
  let count = 0;
  const buffer = new Uint8Array(BLOCK_BYTES);
  for (let got = await tls.read(buffer); got !== null; got = await tls.read(buffer)) count += got;
  return count;
}

Deno.test("bytes in memory arrive block by block, whole and in order", async () => {
  using world = new World();
  const bytes = someBytes(BYTES);
  const { offerId, bytes: count } = await world.a.offer(B, { bytes });
  assert.equal(count, BYTES);
  const { take, all } = collector();
  assert.equal(await world.b.receive(TO_A, offerId, take), BYTES);
  assert.deepEqual(all(), bytes);
});

Deno.test("an offer of no bytes arrives as well", async () => {
  using world = new World();
  const { offerId } = await world.a.offer(B, { bytes: new Uint8Array() });
  assert.equal(await world.b.receive(TO_A, offerId, () => assert.fail("a block of nothing")), 0);
});

Deno.test("pieces of a file arrive as a file, in the order that was asked for", async () => {
  using world = new World();
  await using dir = await TempDir.make();
  const [from, to] = [`${dir.path}/from`, `${dir.path}/to`];
  const bytes = someBytes(BYTES);
  await Deno.writeFile(from, bytes);
  const ranges = [{ offset: BYTES - 5, length: 5 }, { offset: 7, length: 2 * BLOCK_BYTES }];
  const { offerId } = await world.a.offer(B, { path: from, ranges });
  await world.b.receive(TO_A, offerId, to);
  const expected = new Uint8Array(ranges.flatMap(({ offset, length }) => [
    ...bytes.subarray(offset, offset + length),
  ]));
  assert.deepEqual(await Deno.readFile(to), expected);
  const whole = await world.a.offer(B, { path: from });
  assert.equal(await world.b.receive(TO_A, whole.offerId, to), BYTES);
  assert.deepEqual(await Deno.readFile(to), bytes);
});

Deno.test("ranges past the end of a file are no offer", async () => {
  using world = new World();
  await using dir = await TempDir.make();
  const path = `${dir.path}/short`;
  await Deno.writeFile(path, someBytes(10));
  for (const range of [{ offset: 4, length: 7 }, { offset: -1, length: 2 }]) {
    await fails(world.a.offer(B, { path, ranges: [range] }), "invalid_request", /it has 10/);
  }
});

Deno.test("a file that becomes shorter breaks the transfer, and leaves no piece of it", async () => {
  using world = new World();
  await using dir = await TempDir.make();
  const [from, to] = [`${dir.path}/from`, `${dir.path}/to`];
  await Deno.writeFile(from, someBytes(BYTES));
  const { offerId } = await world.a.offer(B, { path: from });
  await Deno.truncate(from, BLOCK_BYTES);
  await fails(world.b.receive(TO_A, offerId, to), "node_unreachable", /broke: .*of 1315041 bytes/);
  await assert.rejects(Deno.stat(to), Deno.errors.NotFound);
});

Deno.test("only the node that is offered bytes gets them, until the offer is withdrawn", async () => {
  using world = new World();
  const offer = await world.a.offer(B, { bytes: someBytes(10) });
  const { take, all } = collector();
  const nothing = /node-a offers node-c nothing under this id/;
  await fails(world.c.receive(TO_A, offer.offerId, take), "not_found", nothing);
  await fails(world.b.receive(TO_A, "another", take), "not_found", /nothing under this id/);
  offer.withdraw();
  await fails(world.b.receive(TO_A, offer.offerId, take), "not_found", /nothing under this id/);
  assert.equal(all().length, 0);
});

Deno.test("a token opens one connection, and nothing else does", async () => {
  using world = new World();
  const { offerId } = await world.a.offer(B, { bytes: someBytes(1_000) });
  const grant = await world.grant({ type: "Receive", offerId });
  const token = encodePreface(grant.token);
  const wrong = encodePreface(crypto.randomUUID());
  const magic = Uint8Array.from(token, (byte, at) => at === 0 ? byte + 1 : byte);
  for (const preface of [wrong, magic, token.subarray(0, 20), new Uint8Array(), someBytes(40)]) {
    assert.equal(await showing(grant, preface), 0);
  }
  assert.equal(await showing(grant, token), 1_000);
  assert.equal(await showing(grant, token), 0);
});

Deno.test("a token that is too old opens nothing", async () => {
  using world = new World(0);
  const { offerId } = await world.a.offer(B, { bytes: someBytes(1_000) });
  const grant = await world.grant({ type: "Receive", offerId });
  assert.equal(await showing(grant, encodePreface(grant.token)), 0);
});

Deno.test("whoever has another certificate than the granted one gets no token", async () => {
  using world = new World();
  const other = await newCertificate();
  using listener = Deno.listenTls({
    hostname: "127.0.0.1",
    port: 0,
    cert: other.certificatePem,
    key: other.keyPem,
  });
  const heardNothing = assert.rejects(
    listener.accept().then(async (conn) => {
      using _ = conn;
      return await conn.read(new Uint8Array(100));
    }),
  );
  redirect(world.transports[1], listener.addr.port);
  const { offerId } = await world.a.offer(B, { bytes: someBytes(10) });
  await fails(world.b.receive(TO_A, offerId, () => {}), "node_unreachable", /certificate/);
  await heardNothing;
});

/** What `transport` is granted leads to another port. */
function redirect(transport: Transport, port: number): void {
  const request = transport.request.bind(transport);
  transport.request = async (...args) =>
    encodeMessage({ ...decodeMessage(BULK.grant, await request(...args)), port });
}

Deno.test("a transfer ends when its signal says so, or when its reader fails", async () => {
  using world = new World();
  await using dir = await TempDir.make();
  const { offerId } = await world.a.offer(B, { bytes: new Uint8Array(100 * BLOCK_BYTES) });
  const abort = new AbortController();
  const received = world.b.receive(TO_A, offerId, () => abort.abort(), abort.signal);
  await fails(received, "cancelled", /was cancelled/);
  const before = world.b.receive(TO_A, offerId, `${dir.path}/to`, AbortSignal.abort());
  await fails(before, "cancelled", /was cancelled/);
  const wrong = world.b.receive(TO_A, offerId, () => {
    throw new AppError("storage_failed", "no room");
  });
  await fails(wrong, "storage_failed", /no room/);
  assert.equal(await world.b.receive(TO_A, offerId, () => {}), 100 * BLOCK_BYTES);
});

Deno.test("closing breaks what is under way, and nothing begins any more", async () => {
  using world = new World();
  const { offerId } = await world.a.offer(B, { bytes: new Uint8Array(400 * BLOCK_BYTES) });
  const received = world.b.receive(TO_A, offerId, () => world.a.close());
  await fails(received, "node_unreachable", /broke/);
  await fails(world.b.receive(TO_A, offerId, () => {}), "node_unreachable", /node-a/);
  world.b.close();
  await fails(world.b.measureBandwidth({ ...TO_A, peer: C }), "not_ready", /is stopping/);
});

Deno.test("offers and tokens that wait are limited", async () => {
  using world = new World();
  for (let n = 0; n < OFFERS_MAX; n++) await world.a.offer(B, { bytes: someBytes(1) });
  await fails(world.a.offer(B, { bytes: someBytes(1) }), "queue_full", /64 offers are open/);
  for (let n = 0; n < GRANTS_PER_PEER_MAX; n++) await world.grant({ type: "Measure" });
  await fails(world.grant({ type: "Measure" }), "queue_full", /8 transfers wait/);
  // Another peer still gets one.
  assert.ok(await world.c.measureBandwidth(TO_A) > 0);
});

Deno.test("a request that is none, and an address that is none, are refused", async () => {
  using world = new World();
  for (const request of [null, {}, { type: "Receive" }, { type: "Receive", offerId: 5 }]) {
    await fails(world.grant(request), "invalid_request", /Cannot read a request/);
  }
  const link = { peer: A, address: "/memory/node-a" };
  await fails(world.b.measureBandwidth(link), "invalid_request", /at \/memory\/node-a/);
});

Deno.test("a link is as fast as what arrives over it, slow as it may be", async () => {
  using world = new World();
  const fast = await world.b.measureBandwidth(TO_A);
  assert.ok(fast > 50e6, `loopback carries ${fast} bits per second`);
  const { port } = await world.grant({ type: "Measure" });
  const bytesPerSecond = 300_000;
  using throttle = new Throttle(port, bytesPerSecond);
  redirect(world.transports[1], throttle.port);
  const startedAt = performance.now();
  const slow = await world.b.measureBandwidth(TO_A);
  const elapsedMs = performance.now() - startedAt;
  // What fits into the system's buffers seems faster than it is.
  const share = slow / (8 * bytesPerSecond);
  assert.ok(share > 0.5 && share < 2, `${slow} bits per second, ${share} of what it is`);
  assert.ok(elapsedMs < MEASURE_MS_MAX + 1_500, `${elapsedMs} ms`);
});

Deno.test("a peer that accepts connections and says nothing is given up", async () => {
  using world = new World();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepted = listener.accept();
  redirect(world.transports[1], listener.addr.port);
  await fails(world.b.measureBandwidth(TO_A), "node_unreachable", /the handshake took over 3 s/);
  (await accepted).close();
});
