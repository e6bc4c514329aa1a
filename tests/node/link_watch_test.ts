import assert from "node:assert/strict";
import { BANDWIDTH_PERIOD_MS, BANDWIDTH_RETRY_MS } from "../../core/bandwidth_turns.ts";
import { NodeId } from "../../core/ids.ts";
import type { Link, PeerChange } from "../../net/transport.ts";
import { LinkWatch, LOOK_MS } from "../../node/link_watch.ts";
import { FakeTime } from "../support/fake_time.ts";

const [A, B] = ["a", "b"].map((id) => NodeId.parse(id)) as [NodeId, NodeId];
const FIRST = "/ip4/10.0.0.2/tcp/1";
const SECOND = "/ip4/10.1.0.2/tcp/1";

/** A watch over links that a test sets, and what it tells. */
function watching(time: FakeTime) {
  const told: string[] = [];
  const measured: unknown[] = [];
  const asked: { link: Link; answer: PromiseWithResolvers<number> }[] = [];
  let links: readonly Link[] = [];
  let hearLinks = () => {};
  let hearPeer = (_change: PeerChange) => {};
  const watch = new LinkWatch({
    nodeId: A,
    transport: {
      peers: () => new Set(),
      links: () => links,
      onLinks: (listener) => {
        hearLinks = listener;
        return () => hearLinks = () => {};
      },
      onPeer: (listener) => {
        hearPeer = listener;
        return () => hearPeer = () => {};
      },
    },
    reporter: {
      report: (event) => {
        assert.equal(event.type, "TopologyEdgeCreated");
        const { source, sink, edge } = event.connection;
        assert.equal(edge.type, "SocketConnection");
        told.push(`+ ${source} ${sink} ${edge.sinkMultiaddr}`);
        return Promise.resolve();
      },
      retract: (subject) => told.push(`- ${subject}`),
      reach: (peer, isReached) => told.push(`${isReached ? "reached" : "lost"} ${peer}`),
    },
    control: {
      measured: ({ links: qualities }) => measured.push(...qualities?.values() ?? []),
    },
    bulk: {
      measureBandwidth: (link) => {
        const answer = Promise.withResolvers<number>();
        asked.push({ link, answer });
        return answer.promise;
      },
    },
    clock: {
      now: () => time.now,
      uptime: () => time.now,
      newId: () => "id",
      newSeed: () => "1",
      random: () => 0.5,
    },
  });
  const set = (...now: readonly Link[]) => {
    links = now;
    hearLinks();
  };
  return { watch, told, measured, asked, set, peer: (change: PeerChange) => hearPeer(change) };
}

const link = (address: string, rttMs?: number): Link => ({ peer: B, address, rttMs });

Deno.test("links become edges as they come, and are taken back as they go", () => {
  using time = new FakeTime();
  const { watch, told, set, peer } = watching(time);
  set(link(FIRST));
  watch.start();
  set(link(FIRST, 3), link(SECOND));
  set(link(SECOND));
  peer({ peer: B, isConnected: false });
  peer({ peer: B, isConnected: true });
  assert.deepEqual(told.map((one) => one.replace(/^- .*10\.0\.0\.2.*/, "- first")), [
    `+ a b ${FIRST}`,
    `+ a b ${SECOND}`,
    "- first",
    "lost b",
    "reached b",
  ]);
  watch.stop();
  set();
  peer({ peer: B, isConnected: false });
  assert.equal(told.length, 5);
  assert.equal(time.armedCount, 0);
});

Deno.test("a round-trip time is told first, and again when it is clearly another", async () => {
  using time = new FakeTime();
  const { watch, measured, set } = watching(time);
  watch.start();
  for (const rttMs of [undefined, 1, 1.2, 1.3, 0.9, 0.1, 0.25, 100, 120, 126]) {
    set(link(FIRST, rttMs));
    await time.pass(LOOK_MS);
  }
  const latencies = measured.map((one) => (one as { latencyMs: number }).latencyMs);
  assert.deepEqual(latencies, [1, 1.3, 0.9, 0.1, 100, 126]);
  watch.stop();
});

Deno.test("bandwidth is measured one link after the other, and told beside the latency", async () => {
  using time = new FakeTime();
  const { watch, measured, asked, set } = watching(time);
  watch.start();
  set(link(FIRST, 2), link(SECOND));
  await time.pass(20_000);
  assert.deepEqual(asked.map(({ link }) => link.address), [FIRST]);
  asked[0]?.answer.resolve(1_000);
  await time.pass(LOOK_MS);
  assert.deepEqual(measured.at(-1), { latencyMs: 2, bandwidthBitsPerSecond: 1_000 });
  assert.deepEqual(asked.map(({ link }) => link.address), [FIRST, SECOND]);
  asked[1]?.answer.resolve(2_000);
  await time.pass(BANDWIDTH_PERIOD_MS / 2);
  assert.equal(asked.length, 2);
  await time.pass(BANDWIDTH_PERIOD_MS / 2);
  assert.equal(asked.length, 3);
  watch.stop();
});

Deno.test("a measurement that failed is repeated with pauses that grow, until one succeeds", async () => {
  using time = new FakeTime();
  const { watch, measured, asked, set } = watching(time);
  watch.start();
  set(link(FIRST));
  await time.pass(6_000);
  for (let failures = 1; failures <= 3; failures++) {
    asked.at(-1)?.answer.reject(new Error("it was busy"));
    const pause = BANDWIDTH_RETRY_MS * 2 ** (failures - 1);
    await time.pass(pause - 2_000);
    assert.equal(asked.length, failures, `not at once after ${failures}`);
    await time.pass(3_000);
    assert.equal(asked.length, failures + 1, `soon after ${failures}`);
  }
  asked.at(-1)?.answer.resolve(1_000);
  await time.pass(BANDWIDTH_PERIOD_MS / 2);
  assert.deepEqual(measured, [{ bandwidthBitsPerSecond: 1_000 }]);
  assert.equal(asked.length, 4, "then it is as rare as ever");
  await time.pass(BANDWIDTH_PERIOD_MS / 2);
  asked.at(-1)?.answer.reject(new Error("it was busy"));
  await time.pass(BANDWIDTH_RETRY_MS + 1_000);
  assert.equal(asked.length, 6, "what failed before is forgotten");
  watch.stop();
});

Deno.test("of a link that has gone meanwhile nothing is told", async () => {
  using time = new FakeTime();
  for (const leave of ["gone", "come back", "stopped"] as const) {
    const { watch, measured, asked, set } = watching(time);
    watch.start();
    set(link(FIRST));
    await time.pass(6_000);
    if (leave === "stopped") watch.stop();
    else set();
    if (leave === "come back") set(link(FIRST));
    asked[0]?.answer.resolve(1_000);
    await time.pass(500);
    assert.equal(asked.length, 1);
    assert.deepEqual(measured, [], leave);
    watch.stop();
  }
});
