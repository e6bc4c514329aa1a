/** What every transport promises (`net/transport.ts`), as one suite that each of them runs. */
import assert from "node:assert/strict";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import {
  type MessageStream,
  PUBLISH_BYTES_MAX,
  TELL_BYTES_MAX,
  type Transport,
} from "../../net/transport.ts";
import { eventually } from "../support/eventually.ts";
import { peerConformance } from "./transport_peers.ts";
import { requestConformance } from "./transport_requests.ts";
import { streamConformance } from "./transport_streams.ts";

/** Two nodes that are connected to each other, and to nobody else. */
export interface Pair {
  readonly a: Transport;
  readonly b: Transport;
  /** Resolves once what has been subscribed to on one node is known to the other. */
  settled(): Promise<void>;
}

/** Runs `body` on a fresh pair, which is closed whatever happens. */
export type PairTest = (title: string, body: (pair: Pair) => Promise<void>) => void;

export const bytes = (text: string) => new TextEncoder().encode(text);
export const text = (message: Uint8Array) => new TextDecoder().decode(message);

/** Long enough that only a defect reaches it. */
export const PATIENT = { timeoutMs: 20_000 };

/** Bytes that show when some are lost, doubled or in the wrong place. */
export function patterned(length: number): Uint8Array {
  const message = new Uint8Array(length);
  for (let at = 0; at < length; at++) message[at] = (at ^ (at >>> 8) ^ (at >>> 16)) & 255;
  return message;
}

/** Whether two messages are the same; an assertion would print them. */
export function isSame(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a?.length === b.length && a.every((byte, at) => byte === b[at]);
}

/** That `promise` fails with this code. */
export async function failsWith(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code);
    return true;
  });
}

/** That `act` throws an error of this code. */
function refuses(act: () => void, code: ErrorCode): void {
  assert.throws(act, (thrown) => thrown instanceof AppError && thrown.code === code);
}

/** One round trip: there was time for what was under way, though no promise that it is there. */
export async function roundTrip({ a, b }: Pair): Promise<void> {
  const stop = b.handle("/round-trip", (body) => Promise.resolve(body));
  await a.request(b.self, "/round-trip", bytes("."), PATIENT);
  stop();
}

/** A stream from `a` to `b`, both ends of it. */
export async function openPair(
  { a, b }: Pair,
): Promise<{ here: MessageStream; there: MessageStream }> {
  const taken = Promise.withResolvers<MessageStream>();
  const stop = b.handleStream("/stream", (stream) => taken.resolve(stream));
  const here = await a.openStream(b.self, "/stream");
  const there = await taken.promise;
  stop();
  return { here, there };
}

/** Declares the suite for a transport. */
export function transportConformance(name: string, makePair: () => Promise<Pair>): void {
  const test: PairTest = (title, body) =>
    Deno.test(`${name}: ${title}`, async () => {
      const pair = await makePair();
      try {
        await body(pair);
      } finally {
        await pair.a.close();
        await pair.b.close();
      }
    });
  peerConformance(test);
  topicConformance(test);
  requestConformance(test);
  streamConformance(test);
  closeConformance(test);
}

function topicConformance(test: PairTest): void {
  test("a message reaches each other subscriber once, in whatever order", async (pair) => {
    const { a, b } = pair;
    const heard: string[] = [];
    a.subscribe("t", () => heard.push("a itself"));
    b.subscribe("t", (message, from) => heard.push(`1 ${text(message)} ${from === a.self}`));
    b.subscribe("t", (message) => heard.push(`2 ${text(message)}`));
    b.subscribe("other", () => heard.push("other topic"));
    await pair.settled();
    a.publish("t", bytes("x"));
    a.publish("t", bytes("y"));
    await eventually("all is heard", () => heard.length >= 4);
    await roundTrip(pair);
    assert.deepEqual(heard.toSorted(), ["1 x true", "1 y true", "2 x", "2 y"]);
  });

  test("both may publish at once, and many messages", async (pair) => {
    const { a, b } = pair;
    const count = 100;
    const heard: string[] = [];
    for (const node of [a, b]) {
      node.subscribe("t", (message, from) => heard.push(`${from} ${text(message)}`));
    }
    await pair.settled();
    const said = [a, b].flatMap((node) =>
      Array.from({ length: count }, (_, n) => {
        node.publish("t", bytes(`${n}`));
        return `${node.self} ${n}`;
      })
    );
    await eventually("all is heard", () => heard.length >= said.length);
    assert.deepEqual(heard.toSorted(), said.toSorted());
  });

  test("who unsubscribed hears nothing more, not even what is under way", async (pair) => {
    const { a, b } = pair;
    const heard: string[] = [];
    const stop = b.subscribe("t", (message) => heard.push(text(message)));
    b.subscribe("t", (message) => heard.push(`still ${text(message)}`));
    await pair.settled();
    a.publish("t", bytes("late"));
    stop();
    await eventually("the other subscriber has heard", () => heard.length > 0);
    await roundTrip(pair);
    assert.deepEqual(heard, ["still late"]);
  });

  test("a subscriber that throws keeps nobody from hearing", async (pair) => {
    const heard: string[] = [];
    pair.b.subscribe("t", () => {
      throw new Error("a subscriber's defect");
    });
    pair.b.subscribe("t", (message) => heard.push(text(message)));
    await pair.settled();
    pair.a.publish("t", bytes("x"));
    pair.a.publish("t", bytes("y"));
    await eventually("both are heard", () => heard.length === 2);
  });

  test("what is told to one peer reaches its subscribers, oneself too, and nobody else", async (pair) => {
    const { a, b } = pair;
    const heard: string[] = [];
    a.subscribe("t", (message, from) => heard.push(`a ${text(message)} ${from === a.self}`));
    b.subscribe("t", (message, from) => heard.push(`1 ${text(message)} ${from === a.self}`));
    b.subscribe("t", (message) => heard.push(`2 ${text(message)}`));
    b.subscribe("other", () => heard.push("other topic"));
    await pair.settled();
    a.tell(b.self, "t", bytes("x"));
    await eventually("both have heard", () => heard.length >= 2);
    a.tell(a.self, "t", bytes("y"));
    await eventually("it has heard itself", () => heard.length >= 3);
    await roundTrip(pair);
    assert.deepEqual(heard, ["1 x true", "2 x", "a y true"]);
  });

  test("the largest message to one peer arrives whole, a larger one is refused", async (pair) => {
    const heard: Uint8Array[] = [];
    pair.b.subscribe("t", (message) => heard.push(message));
    await pair.settled();
    const largest = patterned(TELL_BYTES_MAX);
    const tell = (message: Uint8Array) => () => pair.a.tell(pair.b.self, "t", message);
    refuses(tell(new Uint8Array(TELL_BYTES_MAX + 1)), "payload_too_large");
    tell(largest)();
    await eventually("it is heard", () => heard.length > 0);
    assert.ok(isSame(heard[0], largest), "every byte is as it was");
  });

  test("publishing where nobody listens is fine", ({ a }) => {
    a.publish("nobody", bytes("x"));
    return Promise.resolve();
  });

  test("the largest message of a topic arrives whole, a larger one is refused", async (pair) => {
    const heard: Uint8Array[] = [];
    pair.b.subscribe("t", (message) => heard.push(message));
    await pair.settled();
    const largest = patterned(PUBLISH_BYTES_MAX);
    refuses(
      () => pair.a.publish("t", new Uint8Array(PUBLISH_BYTES_MAX + 1)),
      "payload_too_large",
    );
    pair.a.publish("t", largest);
    await eventually("it is heard", () => heard.length > 0);
    assert.equal(heard.length, 1);
    assert.ok(isSame(heard[0], largest), "every byte is as it was");
  });
}

function closeConformance(test: PairTest): void {
  test("a node that has closed is reached by nobody, and reaches nobody", async (pair) => {
    const { a, b } = pair;
    const heard: string[] = [];
    for (const node of [a, b]) {
      node.handle("/x", (body) => Promise.resolve(body));
      node.handleStream("/s", () => {});
      node.subscribe("t", (message) => heard.push(text(message)));
    }
    await pair.settled();
    await b.close();
    a.publish("t", bytes("to the closed one"));
    b.publish("t", bytes("from the closed one"));
    for (const [from, to] of [[a, b], [b, a]] as const) {
      await failsWith(from.request(to.self, "/x", bytes("."), PATIENT), "node_unreachable");
      await failsWith(from.openStream(to.self, "/s"), "node_unreachable");
      refuses(() => from.tell(to.self, "t", bytes(".")), "node_unreachable");
    }
    assert.deepEqual(heard, []);
  });

  test("closing breaks the streams that are open, at both ends", async (pair) => {
    const { here, there } = await openPair(pair);
    await pair.b.close();
    await eventually("both ends know", () => here.aborted.aborted && there.aborted.aborted);
    await failsWith(here.send(bytes("x")), "node_unreachable");
  });

  test("closing leaves alone the streams that both ends have ended", async (pair) => {
    const { here, there } = await openPair(pair);
    here.end();
    assert.deepEqual(await Array.fromAsync(there), []);
    there.end();
    assert.deepEqual(await Array.fromAsync(here), []);
    await roundTrip(pair);
    await pair.a.close();
    await pair.b.close();
    assert.equal(here.aborted.aborted, false, "else every stream of the past would be kept");
    assert.equal(there.aborted.aborted, false);
  });

  for (const side of ["asker", "asked"] as const) {
    test(`a request that is under way fails when the ${side} closes`, async (pair) => {
      const never = Promise.withResolvers<Uint8Array>();
      const come = Promise.withResolvers<void>();
      pair.b.handle("/never", () => {
        come.resolve();
        return never.promise;
      });
      const { a, b } = pair;
      const asked = failsWith(a.request(b.self, "/never", bytes("."), PATIENT), "node_unreachable");
      await come.promise;
      await (side === "asker" ? a : b).close();
      await asked;
      never.resolve(bytes("too late"));
    });
  }

  test("closing twice is closing once", async ({ a }) => {
    await Promise.all([a.close(), a.close()]);
  });
}
