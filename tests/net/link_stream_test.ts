import assert from "node:assert/strict";
import { AppError } from "../../core/errors.ts";
import { NodeId } from "../../core/ids.ts";
import { encodeLinkFrame, type Hello, type LinkFrame } from "../../net/link_frames.ts";
import { type LinkHandlers, LinkStream, PART_BYTES } from "../../net/link_stream.ts";
import { MESSAGE_BYTES_MAX } from "../../net/transport.ts";
import { FakeStream } from "../support/fake_stream.ts";
import { FakeTime } from "../support/fake_time.ts";
import { patterned } from "../conformance/transport.ts";

const HELLO: Hello = { hostId: "h", addresses: [], peers: [], isAll: true };

/** Handlers that keep what they hear; they answer with what they are asked. */
function listening(answer: LinkHandlers["answer"] = (_, body) => Promise.resolve(body)) {
  const heard: string[] = [];
  const handlers: LinkHandlers = {
    answer: (protocol, body) => {
      heard.push(`asked ${protocol} ${body.length}`);
      return answer(protocol, body);
    },
    published: (topic, message) => heard.push(`${topic} ${message.length}`),
    greeted: ({ hostId }) => heard.push(`greeted ${hostId}`),
    closed: (reason) => heard.push(`closed: ${reason}`),
  };
  return { heard, handlers };
}

/** Two links that are the ends of one stream. */
function linked(answer?: LinkHandlers["answer"]) {
  const [here, there] = FakeStream.pair();
  const [mine, yours] = [listening(), listening(answer)];
  const a = new LinkStream(here.stream, NodeId.parse("b"), mine.handlers);
  const b = new LinkStream(there.stream, NodeId.parse("a"), yours.handlers);
  return { a, b, here, there, mine: mine.heard, yours: yours.heard };
}

/** A link, and the raw other end, which may do as it likes. */
function withRawPeer(answer?: LinkHandlers["answer"]) {
  const [here, there] = FakeStream.pair();
  const { heard, handlers } = listening(answer);
  const link = new LinkStream(here.stream, NodeId.parse("b"), handlers);
  const say = (...frames: LinkFrame[]) => {
    for (const piece of frames.flatMap(encodeLinkFrame)) there.send(piece);
  };
  return { link, here, there, heard, say };
}

/** What comes first in the turn after this one: promises that are settled have been heard of. */
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

const PATIENT = { timeoutMs: 20_000 };

Deno.test("they greet each other, publish and ask", async () => {
  const { a, b, mine, yours } = linked();
  a.greet(HELLO);
  assert.deepEqual(b.hello, HELLO);
  assert.equal(a.hello, undefined);
  assert.equal(a.publish("t", new Uint8Array(3)), true);
  assert.deepEqual(await a.request("/p", Uint8Array.of(1), PATIENT), Uint8Array.of(1));
  assert.deepEqual(yours, ["greeted h", "t 3", "asked /p 1"]);
  assert.deepEqual(mine, []);
});

Deno.test("large bodies go in parts, several at once, and arrive whole", async () => {
  const { a, here } = linked();
  const bodies = [patterned(3 * PART_BYTES + 5), patterned(2 * PART_BYTES), patterned(PART_BYTES)];
  const answers = await Promise.all(bodies.map((body) => a.request("/p", body, PATIENT)));
  assert.deepEqual(answers, bodies);
  assert.ok(here.written.every(({ length }) => length <= PART_BYTES + 256));
});

Deno.test("a part waits until the connection takes more, and pings get between", async () => {
  const { a, b, here, there } = linked();
  here.writableNeedsDrain = true;
  const asked = a.request("/p", patterned(2 * PART_BYTES), PATIENT);
  assert.equal(here.written.length, 1);
  a.ping();
  b.greet(HELLO);
  assert.equal(here.written.length, 2);
  here.writableNeedsDrain = false;
  here.dispatchEvent(new Event("drain"));
  assert.equal((await asked).length, 2 * PART_BYTES);
  assert.ok(there.isOpen);
});

Deno.test("a round trip is measured and smoothed, one at a time", async () => {
  using time = new FakeTime();
  const { link, say, there } = withRawPeer();
  link.ping();
  link.ping();
  const pings = there.written.length;
  await time.pass(10);
  say({ type: "Pong", id: 99 });
  assert.equal(link.rttMs, undefined, "it is an answer to something else");
  say({ type: "Pong", id: 2 });
  assert.equal(link.rttMs, 10);
  link.ping();
  await time.pass(20);
  say({ type: "Pong", id: 3 });
  assert.equal(link.rttMs, 13, "longer ones count little");
  link.ping();
  await time.pass(2);
  say({ type: "Pong", id: 4 });
  assert.equal(link.rttMs, 2, "a shorter one at once");
  assert.equal(link.pongCount, 3);
  assert.equal(pings, 0);
});

Deno.test("a failure keeps its code, and one of many words its beginning", async () => {
  const wrong = new AppError("conflict", "x".repeat(200_000), { hint: "wait" });
  const { a, yours } = linked(() => Promise.reject(wrong));
  await assert.rejects(a.request("/p", new Uint8Array(), PATIENT), (thrown) => {
    assert.ok(thrown instanceof AppError);
    assert.deepEqual([thrown.code, thrown.hint], ["conflict", "wait"]);
    return true;
  });
  assert.deepEqual(yours, ["asked /p 0"], "the link stands");
});

Deno.test("who is not answered hears so in time, and a late answer is nobody's", async () => {
  using time = new FakeTime();
  const { link, say, heard } = withRawPeer();
  const failed = assert.rejects(link.request("/p", new Uint8Array(), { timeoutMs: 50 }), {
    code: "timed_out",
  });
  await time.pass(51);
  await failed;
  say({ type: "AnswerPart", id: 2, bytes: new Uint8Array(5) });
  say({ type: "Answer", id: 2, bytes: new Uint8Array(5) });
  assert.equal(time.armedCount, 0);
  assert.deepEqual(heard, []);
});

Deno.test("closing fails what is under way, is heard once, and ends both", async () => {
  const { a, here, mine, yours } = linked(() => new Promise(() => {}));
  const asked = assert.rejects(a.request("/p", new Uint8Array(), PATIENT), {
    code: "node_unreachable",
  });
  a.close("over");
  a.close("again");
  await asked;
  assert.equal(here.isOpen, false);
  assert.deepEqual(mine, ["closed: over"]);
  assert.deepEqual(yours, ["asked /p 0", "closed: the connection is gone"]);
  assert.equal(a.publish("t", new Uint8Array()), false);
  await assert.rejects(a.request("/p", new Uint8Array(), PATIENT), { code: "node_unreachable" });
});

Deno.test("a peer that closes its end, or says what is nothing, loses the link", () => {
  const silent = withRawPeer();
  silent.here.closeWriteOfPeer();
  assert.deepEqual(silent.heard, ["closed: the peer has ended it"]);
  const odd = withRawPeer();
  odd.there.send(Uint8Array.of(1, 0, 0, 0, 99));
  assert.match(odd.heard.join(), /^closed: what the peer sends cannot be read/);
});

Deno.test("nothing is heard any more of what came with the frame that closed it", () => {
  const [here, there] = FakeStream.pair();
  const heard: string[] = [];
  new LinkStream(here.stream, NodeId.parse("b"), {
    ...listening().handlers,
    greeted: () => {
      heard.push("greeted");
      here.abort(new Error("there is a better way"));
    },
    published: () => heard.push("published"),
    closed: () => heard.push("closed"),
  });
  const said: LinkFrame[] = [
    { type: "Hello", hello: HELLO },
    { type: "Hello", hello: HELLO },
    { type: "Publish", topic: "t", bytes: new Uint8Array() },
  ];
  there.send(Uint8Array.from(said.flatMap(encodeLinkFrame).flatMap((piece) => [...piece])));
  assert.deepEqual(heard, ["greeted", "closed"]);
});

Deno.test("a request whose parts are more than a message may have is refused alone", async () => {
  const { heard, say, here } = withRawPeer();
  const part = new Uint8Array(PART_BYTES);
  const fullCount = Math.floor(MESSAGE_BYTES_MAX / PART_BYTES);
  for (let sent = 0; sent < fullCount; sent++) say({ type: "RequestPart", id: 1, bytes: part });
  say({ type: "Request", id: 1, protocol: "/p", bytes: part });
  await turn();
  assert.deepEqual(heard, []);
  assert.match(new TextDecoder().decode(here.written.at(-1)), /payload_too_large/);
});

Deno.test("endless parts lose the link, empty ones too", () => {
  for (const length of [0, 1]) {
    const { heard, say } = withRawPeer();
    const part = new Uint8Array(length);
    for (let sent = 0; sent < 1_031; sent++) say({ type: "RequestPart", id: 1, bytes: part });
    assert.match(heard.join(), /^closed: .*more parts than they need/);
  }
});

Deno.test("parts of many requests are not kept beyond a limit, and those are refused", async () => {
  const { heard, say, here } = withRawPeer((_, body) => Promise.resolve(body.subarray(0, 1)));
  const part = new Uint8Array(PART_BYTES);
  const fits = Math.floor(4 * MESSAGE_BYTES_MAX / PART_BYTES);
  const perRequest = 1_000;
  const requests = Math.ceil(fits / perRequest);
  for (let sent = 0; sent <= fits; sent++) {
    say({ type: "RequestPart", id: Math.floor(sent / perRequest), bytes: part });
  }
  say({ type: "Request", id: requests - 1, protocol: "/late", bytes: part });
  say({ type: "Request", id: 0, protocol: "/first", bytes: part });
  await turn();
  assert.deepEqual(heard, [`asked /first ${(perRequest + 1) * PART_BYTES}`]);
  assert.ok(here.written.some((one) => new TextDecoder().decode(one).includes("queue_full")));
});

Deno.test("a peer that asks and does not read loses the link", () => {
  const { heard, say, here } = withRawPeer();
  here.writeBufferLength = 129 * 1024 * 1024;
  say({ type: "Ping", id: 1 });
  assert.deepEqual(heard, ["closed: the peer does not read"]);
});

Deno.test("a full outbox refuses what is small and new", async () => {
  const { link, here, heard } = withRawPeer();
  here.writeBufferLength = 17 * 1024 * 1024;
  assert.equal(link.publish("t", new Uint8Array()), false);
  await assert.rejects(link.request("/p", new Uint8Array(), PATIENT), { code: "queue_full" });
  assert.deepEqual(here.written, []);
  assert.deepEqual(heard, []);
});

Deno.test("requests beyond the rate, or too many at once, are refused", async () => {
  const { say, here } = withRawPeer(() => new Promise(() => {}));
  for (let id = 0; id < 1_025; id++) {
    say({ type: "Request", id, protocol: "/p", bytes: new Uint8Array() });
  }
  await turn();
  assert.equal(here.written.length, 1);
  assert.match(new TextDecoder().decode(here.written[0]), /queue_full/);
});

Deno.test("a link is quiet when either end is, and silence is excused while nobody listens", async () => {
  using time = new FakeTime();
  const { link, say } = withRawPeer();
  await time.pass(1_000);
  say({ type: "Publish", topic: "t", bytes: new Uint8Array() });
  assert.equal(link.silentMs(), 0);
  assert.equal(link.quietMs(), 1_000);
  link.publish("t", new Uint8Array());
  assert.equal(link.quietMs(), 0);
  await time.pass(2_000);
  link.excuse(1_500);
  assert.equal(link.silentMs(), 500);
  assert.equal(link.quietMs(), 2_000);
});
