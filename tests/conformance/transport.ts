/** What every transport promises (`net/transport.ts`), as one suite that each of them runs. */
import assert from "node:assert/strict";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { NodeId } from "../../core/ids.ts";
import { MESSAGE_BYTES_MAX, type MessageStream, type Transport } from "../../net/transport.ts";
import { eventually } from "../support/eventually.ts";
import { streamConformance } from "./transport_streams.ts";

/** Two nodes that can reach each other. */
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
const PATIENT = { timeoutMs: 20_000 };

/** That `promise` fails with this code. */
export async function failsWith(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (thrown) => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code);
    return true;
  });
}

/** One round trip: what was under way before it has arrived. */
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
  topicConformance(test);
  requestConformance(test);
  streamConformance(test);
  closeConformance(test);
}

function topicConformance(test: PairTest): void {
  test("a message reaches each other subscriber once, in order", async (pair) => {
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
    assert.deepEqual(heard.filter((one) => one.startsWith("1")), ["1 x true", "1 y true"]);
    assert.deepEqual(heard.filter((one) => one.startsWith("2")), ["2 x", "2 y"]);
    assert.equal(heard.length, 4);
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

  test("publishing where nobody listens is fine, a message too large is not", ({ a }) => {
    a.publish("nobody", bytes("x"));
    const tooLarge = new Uint8Array(MESSAGE_BYTES_MAX + 1);
    assert.throws(
      () => a.publish("nobody", tooLarge),
      (thrown) => thrown instanceof AppError && thrown.code === "payload_too_large",
    );
    return Promise.resolve();
  });
}

function requestConformance(test: PairTest): void {
  test("a request is answered, by another node and by one's own", async ({ a, b }) => {
    for (const node of [a, b]) {
      node.handle("/who", (body, from) => {
        const answer = `${text(body)} from ${from} to ${node.self}`;
        return Promise.resolve(bytes(answer));
      });
    }
    const ask = async (peer: NodeId) => text(await a.request(peer, "/who", bytes("hi"), PATIENT));
    assert.equal(await ask(b.self), `hi from ${a.self} to ${b.self}`);
    assert.equal(await ask(a.self), `hi from ${a.self} to ${a.self}`);
  });

  test("requests at once get each its own answer, in whatever order", async ({ a, b }) => {
    const waiting = new Map<string, () => void>();
    b.handle("/echo", async (body) => {
      await new Promise<void>((resolve) => waiting.set(text(body), resolve));
      return body;
    });
    const names = ["1", "2", "3"];
    const answers = names.map((one) => a.request(b.self, "/echo", bytes(one), PATIENT));
    await eventually("all have come", () => waiting.size === names.length);
    for (const one of names.toReversed()) waiting.get(one)?.();
    assert.deepEqual((await Promise.all(answers)).map(text), names);
  });

  test("an empty request may have an empty answer", async ({ a, b }) => {
    b.handle("/empty", (body) => Promise.resolve(body));
    const answer = await a.request(b.self, "/empty", new Uint8Array(0), PATIENT);
    assert.equal(answer.length, 0);
  });

  test("a node that is not there, or knows no such protocol, is unreachable", async ({ a, b }) => {
    const nobody = NodeId.parse("12D3KooWNobody");
    await failsWith(a.request(nobody, "/x", bytes("."), PATIENT), "node_unreachable");
    await failsWith(a.request(b.self, "/x", bytes("."), PATIENT), "node_unreachable");
    const stop = b.handle("/x", (body) => Promise.resolve(body));
    await a.request(b.self, "/x", bytes("."), PATIENT);
    stop();
    await failsWith(a.request(b.self, "/x", bytes("."), PATIENT), "node_unreachable");
  });

  test("an answer that does not come in time is `timed_out`", async ({ a, b }) => {
    const never = Promise.withResolvers<Uint8Array>();
    b.handle("/never", () => never.promise);
    await failsWith(a.request(b.self, "/never", bytes("."), { timeoutMs: 20 }), "timed_out");
    never.resolve(bytes("too late"));
  });

  test("what a handler throws reaches the asker, and ends nothing else", async ({ a, b }) => {
    b.handle("/own", () => Promise.reject(new AppError("conflict", "taken", { hint: "wait" })));
    b.handle("/defect", () => {
      throw new TypeError("boom");
    });
    const own = await a.request(b.self, "/own", bytes("."), PATIENT).catch((thrown) => thrown);
    assert.ok(own instanceof AppError);
    assert.deepEqual(own.toInfo(), { code: "conflict", message: "taken", hint: "wait" });
    await failsWith(a.request(b.self, "/defect", bytes("."), PATIENT), "internal");
    await failsWith(a.request(b.self, "/own", bytes("."), PATIENT), "conflict");
  });

  test("a request too large is refused before it is sent", async ({ a, b }) => {
    b.handle("/x", (body) => Promise.resolve(body));
    const tooLarge = new Uint8Array(MESSAGE_BYTES_MAX + 1);
    await failsWith(a.request(b.self, "/x", tooLarge, PATIENT), "payload_too_large");
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
    await roundTrip(pair);
    there.end();
    await roundTrip(pair);
    await pair.a.close();
    await pair.b.close();
    assert.equal(here.aborted.aborted, false, "else every stream of the past would be kept");
    assert.equal(there.aborted.aborted, false);
  });

  test("closing twice is closing once", async ({ a }) => {
    await Promise.all([a.close(), a.close()]);
  });
}
