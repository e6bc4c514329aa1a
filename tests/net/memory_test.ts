import assert from "node:assert/strict";
import { AppError, type ErrorCode } from "../../core/errors.ts";
import { NodeId } from "../../core/ids.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import type { MemoryNetworkOptions } from "../../net/memory_wire.ts";
import {
  LINK_SILENCE_MS,
  type MessageStream,
  type PeerChange,
  type Transport,
} from "../../net/transport.ts";
import { bytes, text, transportConformance } from "../conformance/transport.ts";
import { VirtualTime } from "../support/virtual_time.ts";

const [A, B, C] = ["node-a", "node-b", "node-c"].map((id) => NodeId.parse(id)) as [
  NodeId,
  NodeId,
  NodeId,
];

/** Two nodes of a network. */
function makePair(options?: MemoryNetworkOptions) {
  const network = new MemoryNetwork(options);
  return Promise.resolve({
    a: network.join(A),
    b: network.join(B),
    settled: () => Promise.resolve(),
  });
}

transportConformance("memory", () => makePair());
transportConformance("memory with latency", () => makePair({ seed: 1, latencyMs: [0, 4] }));

/** Three nodes in virtual time, each of which answers, and notes what it hears and who is there. */
function world(options: MemoryNetworkOptions = {}) {
  const time = new VirtualTime();
  const network = new MemoryNetwork({ timer: time, ...options });
  const heard: string[] = [];
  const changes: string[] = [];
  const [a, b, c] = [A, B, C].map((id) => {
    const node = network.join(id);
    node.handle("/echo", (body) => Promise.resolve(body));
    node.subscribe("t", (message, from) => heard.push(`${from}>${id} ${text(message)}`));
    node.onPeer((change) => changes.push(shown(id, change)));
    return node;
  }) as [Transport, Transport, Transport];
  changes.length = 0;
  return { time, network, heard, changes, a, b, c };
}

function shown(id: NodeId, { peer, isConnected }: PeerChange): string {
  return `${id} ${isConnected ? "+" : "-"} ${peer}`;
}

/** What became of something that is under way. */
function outcome<T>(promise: Promise<T>): { value?: T; code?: ErrorCode } {
  const found: { value?: T; code?: ErrorCode } = {};
  promise.then(
    (value) => found.value = value,
    (cause) => found.code = cause instanceof AppError ? cause.code : "internal",
  );
  return found;
}

const ask = (from: Transport, to: NodeId, timeoutMs = 60_000) =>
  outcome(from.request(to, "/echo", bytes("?"), { timeoutMs }).then(text));

/** Both ends of a stream, in virtual time. */
async function stream(time: VirtualTime, from: Transport, to: Transport) {
  const taken: MessageStream[] = [];
  to.handleStream("/stream", (one) => taken.push(one));
  const opened = outcome(from.openStream(to.self, "/stream"));
  await time.pass(1_000);
  const [there] = taken;
  assert.ok(there && opened.value);
  return { here: opened.value, there };
}

/** All that is read of a stream, as it comes. */
function reading(stream: MessageStream): { readonly read: string[]; over: boolean } {
  const found = { read: [] as string[], over: false };
  void (async () => {
    for await (const message of stream) found.read.push(text(message));
    found.over = true;
  })();
  return found;
}

Deno.test("a message takes as long as the network says, a request twice as long", async () => {
  const { time, a, heard } = world({ latencyMs: [50, 80] });
  a.publish("t", bytes("x"));
  const answer = ask(a, B);
  await time.pass(49);
  assert.deepEqual(heard, []);
  await time.pass(31);
  assert.deepEqual(heard.toSorted(), ["node-a>node-b x", "node-a>node-c x"]);
  await time.pass(19);
  assert.equal(answer.value, undefined);
  await time.pass(61);
  assert.equal(answer.value, "?");
  assert.deepEqual(a.links().map(({ rttMs }) => rttMs), [130, 130]);
});

Deno.test("a request to oneself takes no time, and no network keeps it from its answer", async () => {
  const { time, a, network } = world({ latencyMs: [50, 80], lossRatio: 1 });
  network.partition([[A], [B], [C]]);
  const answer = ask(a, A);
  await time.pass(0);
  assert.equal(answer.value, "?");
});

Deno.test("one seed is one course of things: the same delays, the same losses", async () => {
  const run = async (seed: number) => {
    const { time, a, heard } = world({ seed, latencyMs: [1, 100], lossRatio: 0.5 });
    for (let n = 0; n < 50; n++) a.publish("t", bytes(`${n}`));
    await time.pass(200);
    return heard;
  };
  const [first, second, other] = [await run(7), await run(7), await run(8)];
  assert.deepEqual(first, second);
  assert.notDeepEqual(first, other);
});

Deno.test("as many messages of a topic are lost as the network says, and nothing else", async () => {
  const { time, a, b, heard } = world({ lossRatio: 0.2 });
  for (let n = 0; n < 1_000; n++) a.publish("t", bytes(`${n}`));
  const answers = Array.from({ length: 200 }, () => ask(a, B));
  const { here, there } = await stream(time, a, b);
  const got = reading(there);
  for (let n = 0; n < 200; n++) await here.send(bytes(`${n}`));
  await time.pass(0);
  const lost = 1 - heard.length / 2_000;
  assert.ok(lost > 0.17 && lost < 0.23, `${lost} of the messages of a topic`);
  assert.equal(answers.filter(({ value }) => value === "?").length, 200);
  assert.equal(got.read.length, 200);
});

Deno.test("messages of a stream keep their order, however long each takes", async () => {
  const { time, a, b } = world({ latencyMs: [0, 500] });
  const { here, there } = await stream(time, a, b);
  const got = reading(there);
  const sent = Array.from({ length: 100 }, (_, n) => `${n}`);
  for (const one of sent) await here.send(bytes(one));
  here.end();
  await time.pass(500);
  assert.deepEqual(got, { read: sent, over: true });
});

Deno.test("an abort is known here at once, and there when it has got there", async () => {
  const { time, a, b } = world({ latencyMs: [100, 100] });
  const { here, there } = await stream(time, a, b);
  const got = reading(there);
  await here.send(bytes("x"));
  here.abort("enough");
  assert.equal(here.aborted.aborted, true);
  await time.pass(99);
  assert.deepEqual([there.aborted.aborted, got.over], [false, false]);
  await time.pass(1);
  assert.deepEqual([there.aborted.aborted, got.over], [true, true]);
  assert.equal(there.aborted.reason, "enough");
});

Deno.test("a cut is noticed by both after the silence of a link, and breaks what is open", async () => {
  const { time, network, changes, heard, a, b } = world();
  const { here, there } = await stream(time, a, b);
  const got = reading(there);
  network.cut(A, B);
  const [patient, hasty] = [ask(a, B), ask(a, B, 1_000)];
  await here.send(bytes("into the void"));
  a.publish("t", bytes("x"));
  await time.pass(LINK_SILENCE_MS - 1);
  assert.deepEqual([...a.peers()], [B, C], "nobody knows yet");
  assert.deepEqual(heard, ["node-a>node-c x"]);
  assert.deepEqual([patient, hasty], [{}, { code: "timed_out" }]);
  assert.deepEqual(got, { read: [], over: false });
  await time.pass(1);
  assert.deepEqual(changes.toSorted(), ["node-a - node-b", "node-b - node-a"]);
  assert.deepEqual([[...a.peers()], [...b.peers()]], [[C], [C]]);
  assert.deepEqual(a.links().map(({ peer }) => peer), [C]);
  assert.equal(patient.code, "node_unreachable");
  assert.deepEqual([here.aborted.aborted, there.aborted.aborted], [true, true]);
  assert.deepEqual(got, { read: [], over: true });
  const [late, opened] = [ask(a, B), outcome(a.openStream(B, "/stream"))];
  await time.pass(0);
  assert.deepEqual([late.code, opened.code], ["node_unreachable", "node_unreachable"]);
  network.heal();
  await time.pass(LINK_SILENCE_MS);
  assert.deepEqual(heard, ["node-a>node-c x"], "what was lost stays lost");
});

Deno.test("a cut that is mended before anybody notices has only held things up", async () => {
  const { time, network, changes, heard, a, b } = world({ latencyMs: [10, 10] });
  const { here, there } = await stream(time, a, b);
  const got = reading(there);
  network.cut(A, B);
  const answer = ask(a, B);
  for (const one of ["1", "2", "3"]) await here.send(bytes(one));
  here.end();
  await time.pass(LINK_SILENCE_MS - 1);
  assert.deepEqual([answer, got.read, got.over], [{}, [], false]);
  network.heal();
  await time.pass(LINK_SILENCE_MS);
  assert.equal(answer.value, "?");
  assert.deepEqual(got, { read: ["1", "2", "3"], over: true });
  a.publish("t", bytes("x"));
  await time.pass(10);
  assert.deepEqual(heard.toSorted(), ["node-a>node-b x", "node-a>node-c x"]);
  assert.deepEqual(changes, []);
});

Deno.test("where the silence of a link is 0 a cut is noticed at once", async () => {
  const { time, network, changes, a, b } = world({ silenceMs: 0, latencyMs: [10, 10] });
  const { here, there } = await stream(time, a, b);
  const answer = ask(a, B);
  network.cut(A, B);
  assert.deepEqual(changes.toSorted(), ["node-a - node-b", "node-b - node-a"]);
  assert.deepEqual([here.aborted.aborted, there.aborted.aborted], [true, true]);
  await time.pass(1_000);
  assert.equal(answer.code, "node_unreachable");
});

Deno.test("groups of a partition reach only themselves until it heals", async () => {
  const { time, network, changes, heard, a, b, c } = world();
  network.partition([[A, B]]);
  await time.pass(LINK_SILENCE_MS);
  assert.deepEqual([a, b, c].map((node) => [...node.peers()]), [[B], [A], []]);
  for (const node of [a, b, c]) node.publish("t", bytes("x"));
  await time.pass(0);
  assert.deepEqual(heard.toSorted(), ["node-a>node-b x", "node-b>node-a x"]);
  const late = network.join(NodeId.parse("node-d"));
  assert.deepEqual([...late.peers()], [C], "who is in no group is with the others in none");
  changes.length = 0;
  network.heal();
  assert.equal(late.peers().size, 3);
  assert.ok(changes.includes("node-a + node-c") && changes.includes("node-c + node-a"));
  const answer = ask(a, C);
  await time.pass(0);
  assert.equal(answer.value, "?");
});

Deno.test("a partition that changes cuts what it divides and mends what it joins", async () => {
  const { time, network, a, b, c } = world({ silenceMs: 0 });
  network.partition([[A, B], [C]]);
  network.partition([[A], [B, C]]);
  await time.pass(0);
  assert.deepEqual([a, b, c].map((node) => [...node.peers()]), [[], [C], [B]]);
});

Deno.test("a node that joins under the id of another takes its place", async () => {
  const { time, network, changes, heard, a, b } = world();
  const { here } = await stream(time, a, b);
  changes.length = 0;
  const again = network.join(B);
  assert.deepEqual(changes.filter((one) => one.startsWith("node-a")), [
    "node-a - node-b",
    "node-a + node-b",
  ]);
  assert.equal(here.aborted.aborted, true);
  assert.deepEqual([...b.peers()], []);
  again.subscribe("t", (message) => heard.push(`again ${text(message)}`));
  a.publish("t", bytes("x"));
  await b.close();
  await time.pass(0);
  assert.deepEqual(heard.toSorted(), ["again x", "node-a>node-c x"]);
  assert.deepEqual([...again.peers()], [A, C]);
});
