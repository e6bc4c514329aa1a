import assert from "node:assert/strict";
import { connect, createServer, type Server } from "node:net";
import * as mx from "../../ffi/mod.ts";
import { testGroup } from "../conformance/group.ts";
import { within } from "../support/eventually.ts";
import { PeerRing } from "../support/group_peer.ts";
import { GROUP_PEER_MAIN as MAIN } from "../support/programs.ts";
import { noise, scoped } from "./support.ts";

testGroup({ name: "SocketGroup", main: MAIN });

const NAMES = ["studio", "mini", "attic"];
const LONG_MS = 30_000;

const listening = (size: number, ip = "127.0.0.1") =>
  Array.from({ length: size }, () => mx.GroupListener.bind(ip, 0));

/** Lets one of the ranks meet the others; what it is told may be changed. */
function join(
  listeners: readonly mx.GroupListener[],
  rank: number,
  change: Partial<mx.JoinOptions> = {},
  ip = "127.0.0.1",
): Promise<mx.NativeGroup> {
  const size = listeners.length;
  const next = { ip, port: listeners[(rank + 1) % size]?.port ?? 0 };
  const names = NAMES.slice(0, size);
  const options = { groupId: "a/1", rank, size, names, next, timeoutMs: LONG_MS };
  return (listeners[rank] as mx.GroupListener).join({ ...options, ...change });
}

/** Ranks of this process, all at once. */
function joining(
  size: number,
  change: (rank: number) => Partial<mx.JoinOptions> = () => ({}),
  ip = "127.0.0.1",
): Promise<mx.NativeGroup>[] {
  const listeners = listening(size, ip);
  return listeners.map((_, rank) => join(listeners, rank, change(rank), ip));
}

const messageOf = (join: Promise<mx.NativeGroup>) =>
  within(
    "a join to fail",
    join.then((group) => (group[Symbol.dispose](), "it joined"), (error: Error) => {
      assert.ok(error instanceof mx.GroupError, `${error}`);
      return error.message;
    }),
    LONG_MS,
  );

Deno.test("Ranks meet at IPv6 addresses as well, and leave nothing behind", async () => {
  const joins = joining(2, undefined, "::1");
  const [first, second] = await Promise.all(joins) as [mx.NativeGroup, mx.NativeGroup];
  first.send(Uint8Array.of(1), Uint8Array.of(2, 3));
  assert.deepEqual(second.receive(LONG_MS), Uint8Array.of(1, 2, 3));
  assert.equal(second.receive(0), undefined);
  const sent = first.counters();
  assert.ok(sent.bytesSent >= 11 && sent.framesSent >= 1, JSON.stringify(sent));
  assert.ok(second.counters().bytesReceived >= 11);
  const rest = second.arrival();
  second[Symbol.dispose]();
  await rest;
  assert.throws(() => first.receive(LONG_MS), {
    name: "GroupError",
    message: 'Rank 1 on "mini" has left the group',
  });
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  assert.throws(() => first.send(new Uint8Array()), /was freed/);
});

Deno.test("A rank that is missing is named by all, within the time to meet", async () => {
  const listeners = listening(3);
  listeners[2]?.[Symbol.dispose](); // It neither connects nor answers.
  const joins = [0, 1].map((rank) => messageOf(join(listeners, rank, { timeoutMs: 500 })));
  const [first, second] = await Promise.all(joins) as [string, string];
  // Whoever looks at the clock first says it to the other, too.
  const missing =
    /^Rank 2 on "attic" did not (connect|answer at 127\.0\.0\.1:\d+) within 0\.5 s(: |$)/;
  assert.match(first, missing);
  assert.match(second, missing);
});

Deno.test("A join ends when its listener is closed", async () => {
  const listeners = listening(2);
  listeners[1]?.[Symbol.dispose]();
  const message = messageOf(join(listeners, 0));
  listeners[0]?.[Symbol.dispose]();
  assert.equal(await message, "The group was closed before all ranks had met");
});

Deno.test("A rank of another group or place is not let in, and is told so", async () => {
  const other = joining(2, (rank) => ({ groupId: rank === 0 ? "a/1" : "b/1", timeoutMs: 500 }));
  for (const message of await Promise.all(other.map(messageOf))) {
    assert.match(message, /: what answers is of another group$/);
  }
  const twice = joining(3, (rank) => ({ rank: Math.min(rank, 1), timeoutMs: 500 }));
  const messages = await Promise.all(twice.map(messageOf));
  assert.ok(messages.some((one) => one.includes("what answers is another rank")), `${messages}`);
});

/** Who connects to a port and says this; resolves when the other end hangs up. */
function stranger(port: number, says: Uint8Array | string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const socket = connect(port, "127.0.0.1", () => socket.write(says));
  socket.on("error", () => {});
  socket.on("close", () => resolve());
  socket.resume();
  return promise;
}

Deno.test("Strangers who connect disturb no one", async () => {
  const listeners = [0, 1].map(() => mx.GroupListener.bind("127.0.0.1", 0));
  const [a, b] = listeners as [mx.GroupListener, mx.GroupListener];
  const options = { groupId: "a/1", size: 2, names: ["studio", "mini"], timeoutMs: LONG_MS };
  const first = a.join({ ...options, rank: 0, next: { ip: "127.0.0.1", port: b.port } });
  const greeting = new Uint8Array(20);
  greeting.set(new TextEncoder().encode("EXORING1"));
  greeting.set([255, 255, 255, 127], 16); // An id of 2 GiB.
  const dropped = [
    stranger(a.port, "GET / HTTP/1.1\r\nHost: studio\r\n\r\n"),
    stranger(a.port, greeting),
  ];
  // More of those who say nothing than may be heard at a time: the oldest have to go.
  const silent = Array.from({ length: 20 }, () => stranger(a.port, "EXO"));
  await within("strangers to be dropped", Promise.all(dropped), LONG_MS);
  await within("the oldest to go", Promise.race(silent), LONG_MS);
  const second = b.join({ ...options, rank: 1, next: { ip: "127.0.0.1", port: a.port } });
  const groups = await Promise.all([first, second]);
  await within("the rest to go, too", Promise.all(silent), LONG_MS);
  for (const group of groups) group[Symbol.dispose]();
});

Deno.test("What answers and is no rank is asked again until the time is over", async () => {
  const server = await new Promise<Server>((resolve) => {
    const made = createServer((socket) => {
      socket.on("error", () => {}); // It is hung up on.
      socket.end("220 mail ready, for what it is worth\r\n");
    }).listen(0, "127.0.0.1", () => resolve(made));
  });
  const { port } = server.address() as { port: number };
  const joins = joining(2, (rank) => ({
    ...(rank === 0 ? { next: { ip: "127.0.0.1", port } } : {}),
    timeoutMs: rank === 0 ? 500 : LONG_MS, // Both at once would speak of each other.
  }));
  const [message = ""] = await Promise.all(joins.map(messageOf));
  assert.match(message, /no rank of this version$/);
  await new Promise((resolve) => server.close(resolve));
});

Deno.test("An address that cannot be listened at is named", async () => {
  using taken = mx.GroupListener.bind("127.0.0.1", 0);
  assert.throws(
    () => mx.GroupListener.bind("127.0.0.1", taken.port),
    new RegExp(`Cannot listen at 127\\.0\\.0\\.1:${taken.port}: address in use`),
  );
  assert.throws(() => mx.GroupListener.bind("198.51.100.1", 0), /this machine has no such address/);
  assert.throws(() => mx.GroupListener.bind("studio.local", 1), /an IPv4 or IPv6 address/);
  assert.throws(() => mx.GroupListener.bind("::1", 65_536), /"\[::1\]:65536"/);
  const lonely = mx.GroupListener.bind("127.0.0.1", 0);
  const join = lonely.join({
    ...{ groupId: "a", rank: 0, size: 1, names: ["studio"], timeoutMs: 1 },
    next: { ip: "127.0.0.1", port: 1 },
  });
  await assert.rejects(join, /a group needs 2 to 64 ranks/);
  lonely[Symbol.dispose]();
});

/** The sum as the ranks are to make it: segment k of the features begins with rank k. */
function sumOf(size: number, rows: number, width: number): number[] {
  const all = Array.from(
    { length: size },
    (_, rank) => Float32Array.from(noise(rows * width, 1 + rank)),
  );
  return Array.from({ length: rows * width }, (_, at) => {
    const k = Array.from({ length: size }, (_, i) => i)
      .findLast((i) => Math.floor(width * i / size) <= at % width) as number;
    let sum = all[k]?.[at] ?? 0;
    for (let i = 1; i < size; i++) sum = Math.fround(sum + (all[(k + i) % size]?.[at] ?? 0));
    return sum;
  });
}

for (const size of [2, 3]) {
  Deno.test(`${size} ranks sum to the same bits, in a plan and by MLX`, async () => {
    await using ring = await PeerRing.start(MAIN, NAMES.slice(0, size));
    for (const shape of [[1, 576], [5, 2], [40, 1_000]] as const) {
      const expected = sumOf(size, shape[0], shape[1]);
      for (const name of ["sumByPlan", "sumByMlx"]) {
        const asked = ring.peers.map((peer) =>
          peer.ask<number[]>({ type: "extra", name, options: { shape } })
        );
        for (const sum of await Promise.all(asked)) assert.deepEqual(sum, expected, name);
      }
    }
  });
}

Deno.test("Each rank's segment of a row comes to all ranks, in a plan and by MLX", async () => {
  await using ring = await PeerRing.start(MAIN, NAMES);
  const options = { shape: [1, 1_001] };
  const asked = ring.peers.map((peer) => peer.ask({ type: "extra", name: "gather", options }));
  const expected = [...Float32Array.from(noise(1_001, 9))];
  for (const found of await Promise.all(asked)) assert.deepEqual(found, [expected, expected]);
  const refusal = ring.at(0).refusal({ type: "extra", name: "gather", options: { shape: [1, 1] } });
  assert.match(await refusal, /rows of no width/); // Less than one feature for each rank.
});

Deno.test("A sum of a rank that is gone fails with its name, in a plan and by MLX", async () => {
  for (const name of ["sumByPlan", "sumByMlx"]) {
    await using ring = await PeerRing.start(MAIN, NAMES.slice(0, 2));
    const sum = ring.at(0).refusal({ type: "extra", name, options: { shape: [1, 8] } });
    ring.at(1).kill("SIGKILL");
    assert.equal(await sum, 'Rank 1 on "mini" has closed the connection');
    const later = ring.at(0).refusal({ type: "extra", name, options: { shape: [1, 8] } });
    assert.equal(await later, 'Rank 1 on "mini" has closed the connection');
  }
});

scoped("Rows that a plan is recorded with are given to each step, and others refused", () => {
  const matrix = mx.packDense(mx.fromArray(noise(20 * 16, 1), [20, 16]));
  using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  const blocks = [pool.take()];
  const graph = (x: mx.Tensor) => mx.packedLinear(mx.rowsNorm(x, undefined, { eps: 1e-5 }), matrix);
  const input = mx.inputRows(2, 16);
  using plan = mx.Plan.record(input, graph(input));
  const step = (count: number) =>
    mx.encodeStep([{ tokens: new Int32Array(count), position: 0, blocks, selected: [] }]);
  for (const count of [1, 3, 32]) {
    const rows = Float32Array.from(noise(count * 16, count));
    const best = new Int32Array(count);
    assert.equal(plan.replay(pool, step(count), { rows, best }), count);
    const expected = graph(mx.fromArray(rows, [count, 16])).toFloat32Array();
    assert.deepEqual(plan.outputRows(), expected);
    const last = expected.subarray(-20);
    assert.equal(best.at(-1), last.indexOf(Math.max(...last)));
  }
  assert.throws(() => plan.replay(pool, step(2)), /needs rows of width 16, it has none/);
  assert.deepEqual(plan.outputRows(), new Float32Array());
  const narrow = { rows: new Float32Array(16) };
  assert.throws(() => plan.replay(pool, step(2), narrow), /width 16, its own have 8/);
  assert.throws(() => plan.replay(pool, step(3), narrow), /16 floats are no 3 rows/);
  assert.throws(() => input.toFloat32Array(), /cannot be computed/);
  assert.throws(() => mx.Plan.record(mx.inputRows(2, 16), graph(input)), /other rows than its own/);
  matrix[Symbol.dispose]();
});

scoped("A slice of a table gives zeros for the ids of other slices", () => {
  const table = noise(24 * 32, 5);
  const whole = mx.packDense(mx.fromArray(table, [24, 32]));
  const slice = mx.packDense(mx.fromArray(table.slice(8 * 32, 16 * 32), [8, 32]));
  const ids = Int32Array.of(8, 15, 0, 7, 16, 23, 9, 1_000);
  const found = mx.packedRows(mx.fromArray(ids), slice, { firstId: 8 }).toFloat32Array();
  const full = mx.packedRows(mx.fromArray(ids.subarray(0, 7)), whole).toFloat32Array();
  const expected = [...ids].flatMap((id, i) =>
    id >= 8 && id < 16 ? [...full.subarray(i * 32, i * 32 + 32)] : new Array(32).fill(0)
  );
  assert.deepEqual([...found], expected);

  using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  const input = mx.fromArray(Int32Array.of(0, 0));
  using plan = mx.Plan.record(input, mx.packedRows(input, slice, { firstId: 8 }));
  const step = (tokens: ArrayLike<number>) =>
    mx.encodeStep([{ tokens, position: 0, blocks: [pool.take()], selected: [] }]);
  plan.replay(pool, step(ids));
  assert.deepEqual([...plan.outputRows()], expected);
  assert.throws(() => plan.replay(pool, step([8, -1])), /token -1/);
  for (const matrix of [whole, slice]) matrix[Symbol.dispose]();
});
