import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { EngineCounts } from "../../../core/engine_stats.ts";
import { GREEDY } from "../../../engines/decoder.ts";
import { Follower } from "../../../engines/group/follower.ts";
import {
  bodyOf,
  decodeFrame,
  encodeHeader,
  type Failure,
  type StepHeader,
} from "../../../engines/group/step_frame.ts";
import { doneBytes } from "../../../engines/prefill/kv_bytes.ts";
import { ensureSetup } from "../../../ffi/mod.ts";
import { ArithmeticDecoder, HIDDEN } from "../../support/arithmetic_decoder.ts";
import { LocalRing } from "../../support/local_group.ts";

await ensureSetup();

/** The second of three ranks, to whom a test speaks as the first and listens as the third. */
function second() {
  const ring = new LocalRing(3);
  const [first, group, third] = ring.groups;
  ok(first && group && third);
  const part = new ArithmeticDecoder({ layers: 3, from: 1, to: 2 });
  const freed: string[] = [];
  const follower = new Follower({
    ...{ group, part, split: "pipeline", hiddenSize: HIDDEN, firstLayer: 1 },
    ...{ fingerprint: "w", now: () => 0 },
    kvBudgetBytes: () => 10_000,
    weights: { [Symbol.dispose]: () => freed.push("weights") },
  });
  const say = (step: Partial<StepHeader>, rows = new Float32Array(0)) => {
    const header = { serial: 0, operations: [], inputs: [], returns: true, blocksMax: null };
    first.send(encodeHeader({ type: "step", ...header, ...step }), new Uint8Array(rows.buffer));
  };
  const heard = () => {
    const frame = third.receive(0);
    return frame && decodeFrame(frame, "node-1");
  };
  const step = () => [...follower.step()];
  return { ring, first, part, follower, freed, say, heard, step };
}

const MAKE = { type: "make", cache: 1 } as const;
const INPUT = { cache: 1, offset: 0, count: 2, logitsCount: 1, draw: GREEDY };

Deno.test("Follower computes its layers of what comes, and passes it on with its own room", () => {
  const { follower, say, heard, step, part } = second();
  const rows = Float32Array.from({ length: 2 * HIDDEN }, (_, i) => i);
  equal(follower.hasWork(), false);
  say({ operations: [MAKE], inputs: [INPUT], blocksMax: 50 }, rows);
  ok(follower.hasWork());
  deepEqual(step(), []);
  const passed = heard();
  const blocks = Math.floor(10_000 / (32 * 8));
  deepEqual(passed?.header, {
    ...{ type: "step", serial: 0, operations: [MAKE], inputs: [INPUT] },
    ...{ returns: true, blocksMax: blocks },
  });
  using cache = part.makeCache();
  const own = part.run([{ cache, ids: [0, 0], logitsCount: 0 }], rows).hidden?.();
  deepEqual(passed?.rows, own);
  // Awake for a while, then it sleeps until something comes.
  ok(follower.hasWork());
  step();
  equal(follower.hasWork(), false);
  const { steps, memory } = follower.stats();
  deepEqual([steps, memory.kvBytes, memory.kvBudgetBytes], [1, 2 * 32 * 8, 10_000]);
  follower.close();
});

Deno.test("Follower sleeps until a frame comes, or the ring breaks", async () => {
  const { follower, say, ring } = second();
  const arrival = follower.arrival();
  say({});
  await arrival;
  ok(follower.hasWork());
  await follower.arrival();
  ring.breakBy(0);
  await follower.arrival();
  throws(() => [...follower.step()], { code: "group_broken", message: /Rank 0 on "node-0"/ });
});

Deno.test("Follower computes nothing of a step that failed before it, nor of what is behind", () => {
  const { say, heard, step, follower } = second();
  const failure = { error: { code: "internal" as const, message: "no luck" }, isLost: false };
  say({ operations: [MAKE], inputs: [INPUT], failure });
  say({ serial: 1, inputs: [{ ...INPUT, offset: 2 }] }, new Float32Array(2 * HIDDEN));
  step();
  const [first, next] = [heard()?.header, heard()?.header];
  deepEqual(first?.type === "step" && first.failure, failure);
  equal(next?.type === "step" && next.failure?.isLost, true);
  equal(follower.stats().steps, 0);
});

Deno.test("Follower adds its part of keys and values to what passes, unless that has failed", () => {
  const { say, heard, step, part } = second();
  Object.assign(part, {
    kvBytes: {
      shape: { layers: ["its only one"] },
      read: () => doneBytes(Uint8Array.of(5, 6, 7, 8)),
    },
  });
  const passing = Float32Array.of(1.5);
  const before = [...new Uint8Array(passing.buffer)];
  const read = (layer: number, failure?: Failure) => {
    const move = { type: "read" as const, layer, shares: [] };
    say({ move, ...(failure ? { failure } : {}) }, failure ? undefined : passing);
    step();
    const frame = heard();
    ok(frame?.header.type === "step");
    deepEqual([frame.header.move, frame.header.failure], [move, failure]);
    return [...bodyOf(frame.rows)];
  };
  deepEqual(read(1), [...before, 5, 6, 7, 8]);
  deepEqual([read(0), read(2)], [before, before], "other ranks have these layers");
  deepEqual(read(1, { error: { code: "internal", message: "no luck" }, isLost: false }), []);
});

Deno.test("Follower ends with an error when what comes makes no sense", () => {
  const cases: readonly [Partial<StepHeader>, number, RegExp][] = [
    [{ inputs: [INPUT] }, 2, /cache 1, which this rank does not hold/],
    [{ operations: [{ type: "giveBack", share: 4 }] }, 0, /share 4, which/],
    [{ operations: [MAKE], inputs: [INPUT] }, 3, /12 numbers for 2 tokens of 4/],
    [{ operations: [MAKE], inputs: [INPUT] }, 0, /0 numbers for 2 tokens of 4/],
  ];
  for (const [header, rows, message] of cases) {
    const { say, step } = second();
    say(header, new Float32Array(rows * HIDDEN));
    throws(step, { code: "group_broken", message });
  }
  const { first, step } = second();
  first.send(encodeHeader({ type: "outcome", serial: 0, drawn: [], blocksMax: null }));
  throws(step, { code: "group_broken", message: /the outcome of a step/ });
});

Deno.test("Follower takes no requests, needs no warm-up, and frees what it holds", () => {
  const { follower, say, step, freed } = second();
  follower.warmup();
  throws(() => follower.submit(), { code: "invalid_request" });
  say({ operations: [MAKE, { type: "make", cache: 2 }] });
  step();
  equal(follower.held, 2);
  follower.close();
  equal(follower.held, 0);
  deepEqual(freed, ["weights"]);
});

Deno.test("Follower tells stats that a node understands where memory is short", () => {
  const [, group] = new LocalRing(2).groups;
  ok(group);
  using part = new ArithmeticDecoder({ layers: 2, from: 1 });
  const follower = new Follower({
    ...{ group, part, split: "pipeline", hiddenSize: HIDDEN, firstLayer: 1 },
    ...{ fingerprint: "w", now: () => 0 },
    kvBudgetBytes: () => -1_000_000,
    weights: { [Symbol.dispose]: () => {} },
  });
  equal(EngineCounts.parse(follower.stats()).memory.kvBudgetBytes, 0);
});
