import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { type Event, type IndexedEvent } from "../../core/events.ts";
import { NO_FACTS, subjectOf } from "../../core/facts.ts";
import type { NodeId } from "../../core/ids.ts";
import { GATHER_BYTES_MAX } from "../../core/pending_gathers.ts";
import { MemoryNetwork } from "../../net/memory.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";
import { ControlPlane } from "../../node/control_plane.ts";
import { EventLog } from "../../node/event_log.ts";
import { Replica } from "../../node/replica.ts";
import { SIDE_CHANNELS_MAX, type SideChannel, SideChannels } from "../../node/side_channel.ts";
import { eventually, within } from "../support/eventually.ts";
import {
  A,
  B,
  C,
  created,
  instanceId,
  instanceOf,
  nodeStarted,
  reported,
} from "../support/fixtures.ts";
import { Peer } from "../support/side_channel_peer.ts";
import { pieceOf } from "../support/side_channel_piece.ts";
import { TempDir } from "../support/temp_dir.ts";

const PATIENCE_MS = 20_000;

/** An instance of two ranks, on A and B. */
const EVENTS: readonly Event[] = [
  { type: "EpochStarted" },
  nodeStarted(A),
  nodeStarted(B),
  nodeStarted(C),
  created(instanceOf("i", [A, B])),
];

/** A node as far as a side channel is concerned. */
class Relay {
  readonly control: ControlPlane;
  readonly replica: Replica;
  readonly channels: SideChannels;
  readonly failures: string[] = [];
  readonly #eventLog: EventLog;

  constructor(nodeId: NodeId, network: MemoryNetwork, folder: string) {
    this.#eventLog = EventLog.open(folder);
    const epoch = { clock: 1, nodeId: C };
    const events = EVENTS.map((event, idx): IndexedEvent => ({ idx, epoch, event }));
    this.#eventLog.store([{ type: "Persist", events }]);
    const left = this.#eventLog.replay();
    this.replica = new Replica(left.state);
    this.control = new ControlPlane({
      nodeId,
      replica: this.replica,
      eventLog: this.#eventLog,
      transport: network.join(nodeId),
      clock: SYSTEM_CLOCK,
      memory: () => ({ ramTotalBytes: 2, ramAvailableBytes: 1 }),
      lookUpCard: () => Promise.resolve({ ok: false, reason: "nobody knows it" }),
      left,
    });
    this.channels = new SideChannels((piece) => this.control.gather(piece));
    this.control.start();
  }

  /** The side channel of a runner of this node, of these very processes of its group. */
  async open(generation: string): Promise<SideChannel> {
    const owner = { instanceId: instanceId("i"), generation };
    return await this.channels.open(owner, (reason) => void this.failures.push(reason));
  }

  /** This node reports a start of a runner. */
  starts(runnerId: string, incarnation: number): void {
    const event = reported(runnerId, "RunnerIdle", { incarnation });
    this.control.report({ ...NO_FACTS, reports: new Map([[subjectOf(event), event]]) });
  }

  incarnations(): (number | undefined)[] {
    const { runners } = this.replica.state;
    return ["i:0", "i:1"].map((id) => runners.get(id as never)?.incarnation);
  }

  stop(): void {
    this.control.stop();
    this.#eventLog.close();
  }
}

/** Nodes that follow C, where they are not C; and whatever was opened on them is closed. */
class Relays implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #network = new MemoryNetwork();

  /** A node. The first that is asked for leads. */
  async add(nodeId: NodeId): Promise<Relay> {
    const dir = this.#stack.use(await TempDir.make());
    const relay = new Relay(nodeId, this.#network, dir.path);
    this.#stack.defer(() => relay.stop());
    await eventually(`${nodeId} has a master`, () => relay.control.epoch() !== undefined);
    return relay;
  }

  /** Starts a stand-in for the runner with this rank, whose pieces have these sizes. */
  peer({ pipes }: SideChannel, rank: number, sizes: readonly number[]): Peer {
    const args = [pipes.input, pipes.output, rank, ...sizes].map(String);
    return this.#stack.use(new Peer(args));
  }

  channel(channel: SideChannel): SideChannel {
    this.#stack.defer(() => channel.close());
    return channel;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Both nodes report these starts of their runners, and know of both; the generation that makes. */
async function started(a: Relay, b: Relay, starts: readonly [number, number]): Promise<string> {
  a.starts("i:0", starts[0]);
  b.starts("i:1", starts[1]);
  for (const relay of [a, b]) {
    await eventually("both starts are known", () => relay.incarnations().join() === starts.join());
  }
  return `i/${starts.join(".")}`;
}

/** What both ranks are to tell of round `sequence`, in which rank r sent `sizes[r]` bytes. */
function told(sequence: number, sizes: readonly number[]): string {
  const joined = Buffer.concat(sizes.map((size, rank) => pieceOf(rank, sequence, size)));
  return `${joined.length} ${createHash("sha256").update(joined).digest("hex")}`;
}

/** Whether a folder is there. */
async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

Deno.test("two runners exchange pieces of any size in order, over named pipes", async () => {
  await using relays = new Relays();
  const [a, b] = [await relays.add(A), await relays.add(B)];
  const generation = await started(a, b, [1, 1]);
  const [first, second] = [await a.open(generation), await b.open(generation)];
  for (const channel of [first, second]) relays.channel(channel);
  const sizes = [[0, 1, 256, GATHER_BYTES_MAX, 3, 0], [1, 0, 257, GATHER_BYTES_MAX, 65_535, 0]];
  const peers = [relays.peer(first, 0, sizes[0] ?? []), relays.peer(second, 1, sizes[1] ?? [])];
  const expected = sizes[0]?.map((size, at) => told(at, [size, sizes[1]?.[at] ?? 0])) ?? [];
  for (const peer of peers) assert.deepEqual(await peer.lines(expected.length), expected);
  await Promise.all([first, second].map((channel) => channel.close()));
  assert.deepEqual([a.failures, b.failures], [[], []]);
  assert.equal(await exists(first.pipes.input), false, "the pipes are gone");
});

Deno.test("a runner that is started anew gets nothing of the one before", async () => {
  await using relays = new Relays();
  const [a, b] = [await relays.add(A), await relays.add(B)];
  const old = await started(a, b, [1, 1]);
  const before = relays.channel(await a.open(old));
  // A whole round, one that nobody answers, and what is left in the pipe when the runner dies.
  await Deno.writeFile(before.pipes.output, new Uint8Array([1, 0, 0, 0, 77, 9, 0, 0, 0, 88]));
  const rest = relays.channel(await b.open(old));
  await Deno.writeFile(rest.pipes.output, new Uint8Array([2, 0, 0, 0, 99]));
  await Promise.all([before.close(), rest.close()]);
  const next = await started(a, b, [2, 5]);
  const [first, second] = [await a.open(next), await b.open(next)];
  for (const channel of [first, second]) relays.channel(channel);
  const peers = [relays.peer(first, 0, [5, 6]), relays.peer(second, 1, [7, 8])];
  for (const peer of peers) {
    assert.deepEqual(await peer.lines(2), [told(0, [5, 7]), told(1, [6, 8])]);
  }
  assert.deepEqual([a.failures, b.failures], [[], []]);
});

Deno.test("another master in between ends a group that had begun; the next one forms", async () => {
  await using relays = new Relays();
  const master = await relays.add(C);
  const [a, b] = [await relays.add(A), await relays.add(B)];
  const generation = await started(a, b, [1, 1]);
  const [first, second] = [await a.open(generation), await b.open(generation)];
  for (const channel of [first, second]) relays.channel(channel);
  const begun = relays.peer(first, 0, [4]);
  const slow = relays.peer(second, 1, [4]);
  for (const peer of [begun, slow]) assert.equal(await peer.line(), told(0, [4, 4]));
  const epoch = a.control.epoch();
  await master.control.leave();
  master.control.stop();
  for (const { control } of [a, b]) {
    await eventually("another leads", () => (control.epoch()?.clock ?? 0) > (epoch?.clock ?? 0));
  }
  await Deno.writeFile(first.pipes.output, new Uint8Array([1, 0, 0, 0, 1]));
  await eventually("the round is refused", () => a.failures.length === 1);
  assert.match(a.failures[0] ?? "", /^\[jaccl\] side channel: .*found round 1, round 0 needed/);
  await Promise.all([first.close(), second.close()]);
  const next = await started(a, b, [2, 2]);
  const [third, fourth] = [await a.open(next), await b.open(next)];
  for (const channel of [third, fourth]) relays.channel(channel);
  const peers = [relays.peer(third, 0, [9]), relays.peer(fourth, 1, [9])];
  for (const peer of peers) assert.equal(await peer.line(), told(0, [9, 9]));
});

Deno.test("a frame that is too long ends the relay, with the reason", async () => {
  await using relays = new Relays();
  const a = await relays.add(A);
  const channel = await a.open("i/1.1");
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, GATHER_BYTES_MAX + 1, true);
  await Deno.writeFile(channel.pipes.output, length);
  await eventually("it fails", () => a.failures.length > 0);
  assert.match(a.failures.join(), /a frame of 65537 bytes, 65536 at most needed/);
  await eventually("its folder is gone", async () => !await exists(channel.pipes.input));
});

Deno.test("channels whose runners never come cost nothing, and are not without limit", async () => {
  const channels = new SideChannels(() => Promise.reject(new Error("nobody is asked")));
  const owner = { instanceId: instanceId("i"), generation: "i/1.1" };
  const failures: string[] = [];
  const open = () => channels.open(owner, (reason) => void failures.push(reason));
  const opened = await Promise.all(Array.from({ length: SIDE_CHANNELS_MAX }, open));
  await assert.rejects(open(), { code: "queue_full", message: /8 are open, 8 at most/ });
  await within("the end of all", Promise.all(opened.map((one) => one.close())), PATIENCE_MS);
  const [again] = [await open()];
  await again.close();
  assert.deepEqual(failures, []);
});
