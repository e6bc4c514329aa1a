import assert from "node:assert/strict";
import { NodeId } from "../../core/ids.ts";
import { FramedStream } from "../../net/framed_stream.ts";
import { frame } from "../../net/framing.ts";
import { MESSAGE_BYTES_MAX, STREAM_CREDIT_MESSAGES } from "../../net/transport.ts";
import { FakeStream } from "../support/fake_stream.ts";

const MESSAGE = 0;
const CREDIT = 1;
const END = 2;
const OPEN = 3;
const ACCEPT = 4;

/** Both ends of a stream; `done` has the names of those that are done. */
function pair() {
  const [here, there] = FakeStream.pair();
  const done: string[] = [];
  const a = new FramedStream(here.stream, NodeId.parse("b"), () => done.push("a"));
  const b = new FramedStream(there.stream, NodeId.parse("a"), () => done.push("b"));
  return { a, b, here, there, done };
}

/** A stream whose other end may do as it likes. */
function withRawPeer() {
  const [here, there] = FakeStream.pair();
  const done: string[] = [];
  const stream = new FramedStream(here.stream, NodeId.parse("b"), () => done.push("done"));
  const say = (kind: number, body?: Uint8Array) => {
    for (const piece of frame(kind, body)) there.send(piece);
  };
  return { stream, here, there, done, say };
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

const UNREACHABLE = { code: "node_unreachable" };

Deno.test("a stream is named, accepted, written, read, and done once both have ended", async () => {
  const { a, b, done } = pair();
  const opened = a.open("/p");
  assert.equal(await b.opened(), "/p");
  b.accept();
  await opened;
  await a.send(Uint8Array.of(1));
  await b.send(Uint8Array.of(2));
  a.end();
  a.end();
  assert.deepEqual(done, []);
  assert.deepEqual(await Array.fromAsync(b), [Uint8Array.of(1)]);
  b.end();
  assert.deepEqual(await Array.fromAsync(a), [Uint8Array.of(2)]);
  assert.deepEqual(done.toSorted(), ["a", "b"]);
  assert.equal(a.aborted.aborted || b.aborted.aborted, false);
  a.abort("too late");
  assert.equal(a.aborted.aborted, false);
});

Deno.test("who has sent as many as are allowed waits until some are read", async () => {
  const { a, b } = pair();
  for (let n = 0; n < STREAM_CREDIT_MESSAGES; n++) await a.send(Uint8Array.of(n));
  const sent: number[] = [];
  const waiting = [1, 2].map((n) => a.send(Uint8Array.of(n)).then(() => sent.push(n)));
  const reader = b[Symbol.asyncIterator]();
  await reader.next();
  await waiting[0];
  assert.deepEqual(sent, [1]);
  await reader.next();
  await waiting[1];
  assert.deepEqual(sent, [1, 2]);
});

Deno.test("who does not wait is told of room in bulk", async () => {
  const { a, b, there } = pair();
  const reader = b[Symbol.asyncIterator]();
  for (let n = 0; n < 32; n++) {
    assert.equal(there.written.length, 0, `after ${n}`);
    await a.send(Uint8Array.of(n));
    await reader.next();
  }
  assert.deepEqual(there.written, frame(CREDIT, u32(32)));
});

Deno.test("breaking it fails who waits, at both ends, and drops what was not read", async () => {
  const { a, b, done } = pair();
  for (let n = 0; n < STREAM_CREDIT_MESSAGES; n++) await a.send(new Uint8Array());
  const waiting = assert.rejects(a.send(new Uint8Array()), UNREACHABLE);
  const opening = assert.rejects(a.open("/p"), UNREACHABLE);
  b.abort("enough");
  await Promise.all([waiting, opening]);
  assert.deepEqual(await Array.fromAsync(b), []);
  assert.ok(a.aborted.aborted && b.aborted.aborted);
  await assert.rejects(a.send(new Uint8Array()), UNREACHABLE);
  await assert.rejects(a.opened(), UNREACHABLE);
  assert.deepEqual(done.toSorted(), ["a", "b"]);
});

Deno.test("an end leaves those behind who wait to send", async () => {
  const { stream } = withRawPeer();
  for (let n = 0; n < STREAM_CREDIT_MESSAGES; n++) await stream.send(new Uint8Array());
  const waiting = assert.rejects(stream.send(new Uint8Array()), UNREACHABLE);
  stream.end();
  await waiting;
  await assert.rejects(stream.send(new Uint8Array()), UNREACHABLE);
});

Deno.test("a message that is too large is refused, and the stream stands", async () => {
  const { a } = pair();
  const large = new Uint8Array(MESSAGE_BYTES_MAX + 1);
  await assert.rejects(a.send(large), { code: "payload_too_large" });
  assert.equal(a.aborted.aborted, false);
});

Deno.test("a writer waits for the connection, and hears when it breaks meanwhile", async () => {
  const { a, here } = pair();
  here.writableNeedsDrain = true;
  const isSent = a.send(new Uint8Array()).then(() => true);
  here.writableNeedsDrain = false;
  here.dispatchEvent(new Event("drain"));
  assert.equal(await isSent, true);
});

Deno.test("a connection that cannot be written to breaks the stream", async () => {
  const { stream, here, done } = withRawPeer();
  here.isOpen = false;
  await assert.rejects(stream.send(new Uint8Array()), UNREACHABLE);
  assert.ok(stream.aborted.aborted);
  assert.deepEqual(done, ["done"]);
});

const WRONG: readonly [string, (peer: ReturnType<typeof withRawPeer>) => void][] = [
  ["says what is of no kind", ({ say }) => say(9)],
  ["names a protocol that is too long", ({ say }) => say(OPEN, new Uint8Array(65))],
  ["ends with something more", ({ say }) => say(END, new Uint8Array(1))],
  ["gives credit that is no number", ({ say }) => say(CREDIT, new Uint8Array(3))],
  ["gives credit for more than was sent", ({ say }) => say(CREDIT, u32(1))],
  ["gives very much credit", ({ say }) => say(CREDIT, u32(2 ** 32 - 1))],
  ["sends more messages than it may", ({ say }) => {
    for (let n = 0; n <= STREAM_CREDIT_MESSAGES; n++) say(MESSAGE);
  }],
  ["sends a message after its end", ({ say }) => {
    say(END);
    say(MESSAGE, Uint8Array.of(1));
  }],
  ["announces a frame that is too long", ({ there }) => there.send(u32(MESSAGE_BYTES_MAX + 2))],
  ["closes without an end", ({ here }) => here.closeWriteOfPeer()],
];
for (const [title, act] of WRONG) {
  Deno.test(`a peer that ${title} loses the stream`, () => {
    const peer = withRawPeer();
    act(peer);
    assert.ok(peer.stream.aborted.aborted);
    assert.equal(peer.here.isOpen, false);
    assert.deepEqual(peer.done, ["done"]);
  });
}

Deno.test("a second name changes nothing, nor an acceptance that nobody waits for", async () => {
  const { stream, say } = withRawPeer();
  say(OPEN, new TextEncoder().encode("/first"));
  say(OPEN, new TextEncoder().encode("/second"));
  say(ACCEPT);
  assert.equal(await stream.opened(), "/first");
  assert.equal(stream.aborted.aborted, false);
});

Deno.test("a slow reader holds the connection back, and gets all, though the peer has closed", async () => {
  const { stream, here, say } = withRawPeer();
  const MEBIBYTE = 1024 * 1024;
  for (let n = 0; n < 40; n++) say(MESSAGE, new Uint8Array(MEBIBYTE).fill(n));
  assert.equal(here.readStatus, "paused");
  say(END);
  here.closeWriteOfPeer();
  const first: (number | undefined)[] = [];
  for await (const message of stream) first.push(message[0]);
  assert.deepEqual(first, Array.from({ length: 40 }, (_, n) => n));
  assert.equal(stream.aborted.aborted, false);
  assert.equal(here.readStatus, "readable");
});

Deno.test("a peer that closes without an end is found out once all has been read", async () => {
  const { stream, here, say } = withRawPeer();
  for (let n = 0; n < 17; n++) say(MESSAGE, new Uint8Array(1024 * 1024));
  here.closeWriteOfPeer();
  assert.equal(stream.aborted.aborted, false);
  await Array.fromAsync(stream);
  assert.ok(stream.aborted.aborted);
});
