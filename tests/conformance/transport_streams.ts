/** What every transport promises of its streams; part of the suite in `transport.ts`. */
import assert from "node:assert/strict";
import { NodeId } from "../../core/ids.ts";
import { MIB } from "../../core/units.ts";
import {
  MESSAGE_BYTES_MAX,
  type MessageStream,
  STREAM_CREDIT_MESSAGES,
} from "../../net/transport.ts";
import { eventually } from "../support/eventually.ts";
import {
  bytes,
  failsWith,
  isSame,
  openPair,
  type PairTest,
  patterned,
  roundTrip,
  text,
} from "./transport.ts";

/** More than the streams of a protocol that libraries allow unless they are told otherwise. */
const STREAMS_AT_ONCE = 200;

/** All that the other end sent. */
async function readAll(stream: MessageStream): Promise<string[]> {
  return (await Array.fromAsync(stream)).map(text);
}

export function streamConformance(test: PairTest): void {
  test("a stream carries messages in order, each way, and knows its peer", async (pair) => {
    const { here, there } = await openPair(pair);
    assert.equal(here.peer, pair.b.self);
    assert.equal(there.peer, pair.a.self);
    for (const one of ["1", "", "3"]) await here.send(bytes(one));
    for (const one of ["x", "y"]) await there.send(bytes(one));
    here.end();
    there.end();
    assert.deepEqual(await readAll(there), ["1", "", "3"]);
    assert.deepEqual(await readAll(here), ["x", "y"]);
  });

  test("a node may open a stream to itself", async ({ a }) => {
    const taken = Promise.withResolvers<MessageStream>();
    a.handleStream("/self", (stream) => taken.resolve(stream));
    const here = await a.openStream(a.self, "/self");
    await here.send(bytes("x"));
    here.end();
    const there = await taken.promise;
    assert.equal(there.peer, a.self);
    assert.deepEqual(await readAll(there), ["x"]);
  });

  test("a stream to nobody, or of an unknown protocol, is unreachable", async ({ a, b }) => {
    await failsWith(a.openStream(NodeId.parse("12D3KooWNobody"), "/s"), "node_unreachable");
    await failsWith(a.openStream(b.self, "/s"), "node_unreachable");
    const stop = b.handleStream("/s", () => {});
    await a.openStream(b.self, "/s");
    stop();
    await failsWith(a.openStream(b.self, "/s"), "node_unreachable");
  });

  test("a handler that throws breaks its stream and no other", async (pair) => {
    pair.b.handleStream("/defect", () => {
      throw new Error("a handler's defect");
    });
    const broken = await pair.a.openStream(pair.b.self, "/defect");
    await eventually("the stream is broken", () => broken.aborted.aborted);
    const { here, there } = await openPair(pair);
    await here.send(bytes("x"));
    here.end();
    assert.deepEqual(await readAll(there), ["x"]);
  });

  test("`send` waits while the reader is behind by the credit", async (pair) => {
    const { here, there } = await openPair(pair);
    for (let n = 0; n < STREAM_CREDIT_MESSAGES; n++) await here.send(bytes(String(n)));
    let sent = false;
    const oneMore = here.send(bytes("one more")).then(() => sent = true);
    await roundTrip(pair);
    assert.equal(sent, false, "the credit is spent");
    const reader = there[Symbol.asyncIterator]();
    assert.equal(text((await reader.next()).value), "0");
    await oneMore;
    here.end();
    let last = "";
    for (let next = await reader.next(); !next.done; next = await reader.next()) {
      last = text(next.value);
    }
    assert.equal(last, "one more");
  });

  test("one direction waits without holding the other back", async (pair) => {
    const { here, there } = await openPair(pair);
    for (let n = 0; n < STREAM_CREDIT_MESSAGES; n++) await here.send(bytes("x"));
    const waiting = here.send(bytes("waiting"));
    await there.send(bytes("back"));
    there.end();
    assert.deepEqual(await readAll(here), ["back"]);
    here.abort("enough");
    await failsWith(waiting, "node_unreachable");
  });

  test("messages that nobody waited for arrive in order too", async (pair) => {
    const { here, there } = await openPair(pair);
    const count = 3 * STREAM_CREDIT_MESSAGES;
    const sends: Promise<void>[] = [];
    const read: string[] = [];
    const wanted: string[] = [];
    const send = () => {
      wanted.push(String(wanted.length));
      sends.push(here.send(bytes(wanted.at(-1) ?? "")));
    };
    while (wanted.length < count) send();
    for await (const message of there) {
      read.push(text(message));
      if (wanted.length < 2 * count) send();
      else void Promise.all(sends).then(() => here.end());
    }
    assert.deepEqual(read, wanted);
  });

  test("after `end` what was sent still arrives, and the other direction goes on", async (pair) => {
    const { here, there } = await openPair(pair);
    await here.send(bytes("last"));
    here.end();
    await failsWith(here.send(bytes("after the end")), "node_unreachable");
    assert.deepEqual(await readAll(there), ["last"]);
    await there.send(bytes("answer"));
    there.end();
    assert.deepEqual(await readAll(here), ["answer"]);
    assert.equal(here.aborted.aborted, false);
  });

  test("a reader that waits is woken by a message and by the end", async (pair) => {
    const { here, there } = await openPair(pair);
    const reading = readAll(there);
    await roundTrip(pair);
    await here.send(bytes("x"));
    await roundTrip(pair);
    here.end();
    assert.deepEqual(await reading, ["x"]);
  });

  for (const side of ["opener", "taker"] as const) {
    test(`an abort by the ${side} breaks both ends and both directions`, async (pair) => {
      const { here, there } = await openPair(pair);
      const [breaker, other] = side === "opener" ? [here, there] : [there, here];
      const reads = [readAll(here), readAll(there)];
      breaker.abort("no more");
      await eventually("both know", () => breaker.aborted.aborted && other.aborted.aborted);
      await Promise.all(reads);
      await failsWith(breaker.send(bytes("x")), "node_unreachable");
      await failsWith(other.send(bytes("x")), "node_unreachable");
      other.abort("again");
    });
  }

  test("an abort wakes a `send` that waits for the reader", async (pair) => {
    const { here, there } = await openPair(pair);
    for (let n = 0; n < STREAM_CREDIT_MESSAGES; n++) await here.send(bytes("x"));
    const waiting = failsWith(here.send(bytes("waiting")), "node_unreachable");
    there.abort("the reader has gone");
    await waiting;
  });

  test("a message too large for a stream is refused, and the stream goes on", async (pair) => {
    const { here, there } = await openPair(pair);
    await failsWith(here.send(new Uint8Array(MESSAGE_BYTES_MAX + 1)), "payload_too_large");
    await here.send(bytes("x"));
    here.end();
    assert.deepEqual(await readAll(there), ["x"]);
  });

  test("a big message of a stream arrives whole, between small ones", async (pair) => {
    const { here, there } = await openPair(pair);
    const big = patterned(8 * MIB);
    const sent = (async () => {
      for (const message of [bytes("before"), big, bytes("after")]) await here.send(message);
      here.end();
    })();
    const [before, middle, after] = await Array.fromAsync(there);
    await sent;
    assert.equal(before && text(before), "before");
    assert.ok(isSame(middle, big), "every byte is as it was");
    assert.equal(after && text(after), "after");
  });

  test(`${STREAMS_AT_ONCE} streams at once each carry their own messages`, async ({ a, b }) => {
    b.handleStream("/echo", async (stream) => {
      for await (const message of stream) await stream.send(message);
      stream.end();
    });
    const streams = await Promise.all(
      Array.from({ length: STREAMS_AT_ONCE }, () => a.openStream(b.self, "/echo")),
    );
    await Promise.all(streams.map(async (stream, n) => {
      for (let part = 0; part < 3; part++) await stream.send(bytes(`${n}.${part}`));
      stream.end();
    }));
    for (const [n, stream] of streams.entries()) {
      assert.deepEqual(await readAll(stream), [`${n}.0`, `${n}.1`, `${n}.2`]);
    }
  });
}
