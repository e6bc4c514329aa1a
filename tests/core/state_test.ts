import assert from "node:assert/strict";
import fc from "fast-check";
import type { Event } from "../../core/events.ts";
import { ModelId } from "../../core/ids.ts";
import { decodeState, drop, EMPTY_STATE, encodeState, put, type State } from "../../core/state.ts";
import { boundTo, linkCreated, metaCreated, metaOf, socket } from "../support/control_plane.ts";
import {
  A,
  B,
  cardOf,
  created,
  downloaded,
  fold,
  instanceId,
  instanceOf,
  nodeStarted,
  reported,
  taskCreated,
  taskOf,
} from "../support/fixtures.ts";

Deno.test("put() copies, overwrites by key and keeps the place of a key that was there", () => {
  const table = new Map([["a", 1], ["b", 2]]);
  assert.deepEqual([...put(table, "a", 3)], [["a", 3], ["b", 2]]);
  assert.deepEqual([...table], [["a", 1], ["b", 2]]);
});

Deno.test("drop() copies only when it has something to drop", () => {
  const table = new Map([["a", 1], ["b", 2]]);
  assert.equal(drop(table, "c"), table);
  assert.equal(drop(table), table);
  assert.deepEqual([...drop(table, "a", "c")], [["b", 2]]);
  assert.equal(table.size, 2);
});

/** Any event on a small world, so that keys meet. */
const anyEvent: fc.Arbitrary<Event> = fc.oneof(
  fc.record({ node: fc.constantFrom(A, B), n: fc.nat(9) })
    .map(({ node, n }) => nodeStarted(node, n)),
  fc.record({
    source: fc.constantFrom(A, B),
    sink: fc.constantFrom(A, B),
    ip: fc.constantFrom("10.0.0.1", "10.0.0.2"),
  }).map(({ source, sink, ip }) => socket(source, sink, ip)),
  fc.constantFrom("m", "n").map((id) => metaCreated(metaOf(id))),
  fc.constantFrom("i", "j").map((id) => linkCreated("L", [id], ["j"])),
  fc.constantFrom("i", "j").map((id) => created(instanceOf(id, [A, B]))),
  fc.record({
    id: fc.constantFrom("i:0", "i:1", "j:0"),
    type: fc.constantFrom(
      "RunnerIdle" as const,
      "RunnerLoading" as const,
      "RunnerReady" as const,
      "RunnerFailed" as const,
    ),
    at: fc.nat(),
    reason: fc.string({ unit: "binary" }),
  }).map(({ id, type, at, reason }) => reported(id, type, { at, reason })),
  fc.constantFrom("t", "u").map((id) => taskCreated(taskOf(id, "i"))),
  fc.string({ unit: "binary", minLength: 1, maxLength: 20 })
    .map((id) => downloaded(A, ModelId.parse(id))),
  fc.string({ unit: "binary" })
    .map((license) => ({ type: "CustomModelCardAdded" as const, modelCard: cardOf({ license }) })),
  fc.record({ error: fc.string({ unit: "binary" }), notBefore: fc.nat() }).map((
    { error, notBefore },
  ) => ({
    type: "InstanceRetrying" as const,
    instanceId: instanceId("i"),
    failureError: error,
    notBefore,
  })),
);

Deno.test("A10: a state survives its JSON, whatever has happened, and to the letter", () => {
  fc.assert(fc.property(fc.array(anyEvent, { maxLength: 30 }), (events) => {
    const state: State = fold(events);
    const text = encodeState(state);
    const back = decodeState(text);
    assert.deepEqual(back, state);
    assert.equal(encodeState(back), text);
  }));
});

Deno.test("api §5: wishes, their counters and the instances bound to them survive JSON", () => {
  const state = fold([
    metaCreated(metaOf("m", { nodeIds: [B, A], consecutiveFailures: 2, lastFailureError: "OOM" })),
    created(boundTo("m", instanceOf("i"))),
  ]);
  const back = decodeState(encodeState(state));
  const [meta] = back.metaInstances.values();
  assert.deepEqual(meta?.nodeIds, [B, A]);
  assert.deepEqual([meta?.consecutiveFailures, meta?.lastFailureError], [2, "OOM"]);
  assert.deepEqual([...back.instances.values()].map((one) => one.metaInstanceId), ["m"]);
});

Deno.test("equal logs give equal states, through a snapshot at any point or none", () => {
  const events = fc.array(anyEvent, { minLength: 1, maxLength: 30 });
  fc.assert(fc.property(events, fc.nat(), (events, at) => {
    const cut = at % events.length;
    const snapshot = decodeState(encodeState(fold(events.slice(0, cut))));
    assert.equal(encodeState(fold(events.slice(cut), snapshot)), encodeState(fold(events)));
  }));
});

Deno.test("decodeState() refuses what is no state", () => {
  assert.throws(() => decodeState("{"), SyntaxError);
  assert.throws(() => decodeState("{}"));
  const low = encodeState({ ...EMPTY_STATE, lastEventAppliedIdx: -2 });
  assert.throws(() => decodeState(low));
});
