/** A rank over TCP connections of our own; it can also sum over the ranks, by a plan and by MLX. */
import type { GroupSpec } from "../../core/group.ts";
import type { Group } from "../../engines/group.ts";
import * as mx from "../../ffi/mod.ts";
import { noise } from "../ffi/support.ts";
import { SocketGroup } from "../../engines/group/socket_group.ts";
import { type PeerKind, runPeer, sumOf } from "./group_peer.ts";

/** How long the ranks of a test may take to meet. */
const JOIN_MS = 60_000;

let listener: mx.GroupListener | undefined;
let native: mx.NativeGroup | undefined;

/** Rows of noise that differ from rank to rank. */
const rowsOf = (rank: number, [rows, width]: readonly [number, number]) =>
  Float32Array.from(noise(rows * width, 1 + rank));

/** A sum as a step of a plan computes it. */
function sumByPlan(group: mx.NativeGroup, shape: readonly [number, number]): Float32Array {
  using _scope = new mx.Scope();
  using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  const input = mx.inputRows(...shape);
  using plan = mx.Plan.record(input, mx.allSum(input, group));
  const tokens = new Int32Array(shape[0]);
  const blocks = Array.from({ length: Math.ceil(shape[0] / 32) }, () => pool.take());
  const step = mx.encodeStep([{ tokens, position: 0, blocks, selected: [] }]);
  plan.replay(pool, step, { rows: rowsOf(group.rank, shape) });
  return plan.outputRows();
}

/** The same as MLX computes it. */
function sumByMlx(group: mx.NativeGroup, shape: readonly [number, number]): Float32Array {
  using _scope = new mx.Scope();
  const rows = mx.fromArray(rowsOf(group.rank, shape), shape);
  // Of something that MLX has yet to compute, and on to something that it computes then.
  return mx.allSum(rows.multiply(2), group).multiply(0.5).toFloat32Array();
}

/** A row of which each rank has a segment, as a plan puts it together and as MLX does. */
function gather(group: mx.NativeGroup, width: number): Float32Array[] {
  using _scope = new mx.Scope();
  using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  const at = (rank: number) => Math.floor(width * rank / group.size);
  const rows = Float32Array.from(noise(width, 9)).slice(at(group.rank), at(group.rank + 1));
  const input = mx.inputRows(1, rows.length);
  using plan = mx.Plan.record(input, mx.allGather(input, group, width));
  const step = mx.encodeStep([{ tokens: [0], position: 0, blocks: [pool.take()], selected: [] }]);
  plan.replay(pool, step, { rows });
  const byMlx = mx.allGather(mx.fromArray(rows, [1, rows.length]), group, width);
  return [plan.outputRows(), byMlx.toFloat32Array()];
}

/** Milliseconds of each of so many round trips of a frame, or sums. */
function timesOf(count: number, once: () => void): number[] {
  return Array.from({ length: count }, () => {
    const began = performance.now();
    once();
    return performance.now() - began;
  });
}

/** Frames that go round, the first rank looking at the clock; each has this many bytes. */
function goRound(group: mx.NativeGroup, bytes: number, count: number): number[] {
  const frame = new Uint8Array(bytes);
  return timesOf(count, () => {
    if (group.rank === 0) group.send(frame);
    group.receive(JOIN_MS);
    if (group.rank > 0) group.send(frame);
  });
}

/** Sums of a plan, one after the other. */
function sumOften(group: mx.NativeGroup, width: number, count: number): number[] {
  using _scope = new mx.Scope();
  using pool = new mx.KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  const input = mx.inputRows(1, width);
  using plan = mx.Plan.record(input, mx.allSum(input, group));
  const step = mx.encodeStep([{ tokens: [0], position: 0, blocks: [pool.take()], selected: [] }]);
  const rows = new Float32Array(width);
  return timesOf(count, () => plan.replay(pool, step, { rows }));
}

const kind: PeerKind = {
  bind() {
    listener = mx.GroupListener.bind("127.0.0.1", 0);
    return listener.port;
  },
  async join({ groupId, rank, size, names, link }: GroupSpec): Promise<Group> {
    const next = link.type === "ring" ? link.hosts[(rank + 1) % size] : undefined;
    if (!next || !listener) throw new Error("bind first, and say where the next rank is");
    native = await listener.join({ groupId, rank, size, names, next, timeoutMs: JOIN_MS });
    return new SocketGroup(native);
  },
  extra(group, name, options) {
    if (name === "sum") return sumOf(group, options);
    if (!native) throw new Error("join first");
    const { shape = [1, 1], bytes = 0, count = 1 } = options as {
      shape?: [number, number];
      bytes?: number;
      count?: number;
    };
    if (name === "sumByPlan") return [...sumByPlan(native, shape)];
    if (name === "sumByMlx") return [...sumByMlx(native, shape)];
    if (name === "gather") return gather(native, shape[1]).map((each) => [...each]);
    if (name === "goRound") return goRound(native, bytes, count);
    if (name === "sumOften") return sumOften(native, shape[1], count);
    throw new Error(`no such thing: ${name}`);
  },
};

await runPeer(kind);
