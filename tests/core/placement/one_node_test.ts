import assert from "node:assert/strict";
import fc from "fast-check";
import type { PlacementRequest } from "../../../core/placement_request.ts";
import type { Event } from "../../../core/events.ts";
import type { NodeId } from "../../../core/ids.ts";
import { rankOn } from "../../../core/instance.ts";
import { CONTEXT_TOKENS_DEFAULT, neededBytes } from "../../../core/memory_fit.ts";
import type { ModelCard } from "../../../core/model_card.ts";
import { place } from "../../../core/placement.ts";
import type { State } from "../../../core/state.ts";
import { GIB, MIB } from "../../../core/units.ts";
import {
  A,
  B,
  C,
  cardOf,
  created,
  fold,
  instanceId,
  instanceOf,
  memoryOf,
  nodeStarted,
  placementOf,
  reported,
  runnerId,
  telemetryOf,
} from "../../support/fixtures.ts";

const nodes = fold([nodeStarted(A), nodeStarted(B)]);

function placeOn(
  memory: ReadonlyMap<NodeId, { ramTotalBytes: number; ramAvailableBytes: number }>,
  { card = cardOf(), request = placementOf(), state = nodes, id = "i" }: {
    card?: ModelCard;
    request?: PlacementRequest;
    state?: State;
    id?: string;
  } = {},
) {
  return place(state, telemetryOf(memory), { instanceId: instanceId(id), card, request });
}

/** Why nothing was placed. */
function refusal(...args: Parameters<typeof placeOn>): string {
  const placed = placeOn(...args);
  assert.equal(placed.ok, false);
  return placed.ok ? "" : placed.reason;
}

Deno.test("place() takes the node with the most free memory, whole model on one rank", () => {
  const memory = new Map([...memoryOf(GIB, [A]), ...memoryOf(2 * GIB, [B])]);
  const placed = placeOn(memory);
  assert.ok(placed.ok);
  assert.deepEqual(placed.instance, instanceOf("i", [B]));
  assert.deepEqual([...placed.memoryBytesByNode], [[B, 100 * MIB]]);
});

Deno.test("a tie goes to the node that the cluster has known longer", () => {
  const placed = placeOn(memoryOf(GIB, [B, A]));
  assert.ok(placed.ok && rankOn(placed.instance, A));
});

Deno.test("a model that fits to the byte is placed, one byte more is not", () => {
  const card = cardOf({ storageSize: { inBytes: MIB }, kvBytesPerToken: 1_024 });
  const request = placementOf({ config: { contextTokens: 1_024 } });
  assert.ok(placeOn(memoryOf(2 * MIB), { card, request }).ok);
  assert.match(
    refusal(memoryOf(2 * MIB - 1), { card, request }),
    /node-a has 2\.0 MiB free, 2\.0 MiB needed/,
  );
});

Deno.test("KV is reserved for the context asked for, else min(the card's, 8,192) tokens", () => {
  const card = (contextLength: number) =>
    cardOf({ storageSize: { inBytes: 0 }, kvBytesPerToken: 1, contextLength });
  assert.equal(neededBytes(card(2_048)), 2_048);
  assert.equal(neededBytes(card(131_072)), CONTEXT_TOKENS_DEFAULT);
  assert.equal(neededBytes(card(0)), CONTEXT_TOKENS_DEFAULT, "unknown");
  assert.equal(neededBytes(card(131_072), { contextTokens: 100_000 }), 100_000);
  assert.equal(neededBytes(cardOf({ storageSize: { inBytes: 7 } })), 7, "no KV known");
});

Deno.test("KV is reserved for what a window leaves of the context", () => {
  const card = cardOf({
    storageSize: { inBytes: 0 },
    kvBytesPerToken: 2,
    slidingWindow: 4_096,
    contextLength: 32_768,
  });
  assert.equal(neededBytes(card, { contextTokens: 3_000 }), 2 * 3_000);
  assert.equal(neededBytes(card), 2 * (4_096 + 1_024));
  assert.equal(neededBytes(card, { contextTokens: 100_000 }), neededBytes(card));
});

Deno.test("KV of fewer bits takes less room, with its scales", () => {
  const card = cardOf({ storageSize: { inBytes: 7 }, kvBytesPerToken: 32 });
  const contextTokens = 100;
  assert.equal(neededBytes(card, { contextTokens }), 7 + 3_200);
  assert.equal(neededBytes(card, { contextTokens, kvBits: 8 }), 7 + 900);
  assert.equal(neededBytes(card, { contextTokens, kvBits: 4 }), 7 + 500);
});

Deno.test("memory promised to an instance that is not loaded yet is not free", () => {
  const card = cardOf({ storageSize: { inBytes: 600 * MIB } });
  const state = fold([created(instanceOf("first", [A], { card }))], nodes);
  assert.match(refusal(memoryOf(GIB), { card, state }), /node-a has 424\.0 MiB free/);
  const loading = fold([reported("first:0", "RunnerLoading")], state);
  assert.match(refusal(memoryOf(GIB), { card, state: loading }), /424\.0 MiB free/);
  const loaded = fold([reported("first:0", "RunnerReady")], state);
  assert.match(refusal(memoryOf(GIB), { card, state: loaded }), /424\.0 MiB free/);
  const measured = memoryOf(GIB, [A], [runnerId("first:0")]);
  assert.ok(placeOn(measured, { card, state: loaded }).ok, "its weights are in what is used");
});

Deno.test("the KV of a loaded instance stays promised: its cache grows into it", () => {
  const kv = cardOf({ storageSize: { inBytes: MIB }, kvBytesPerToken: MIB });
  const config = { contextTokens: 600 };
  const state = fold([
    created(instanceOf("first", [A], { card: kv, config })),
    reported("first:0", "RunnerReady"),
  ], nodes);
  const card = cardOf({ storageSize: { inBytes: 600 * MIB } });
  const measured = memoryOf(GIB, [A], [runnerId("first:0")]);
  assert.match(refusal(measured, { card, state }), /node-a has 424\.0 MiB free/);
});

Deno.test("a node that is promised more than it has free has none, not less", () => {
  const card = cardOf({ storageSize: { inBytes: 2 * GIB } });
  const state = fold([created(instanceOf("first", [A], { card }))], nodes);
  assert.match(refusal(memoryOf(GIB), { state }), /node-a has 0 B free/);
});

Deno.test("an instance on one node promises nothing on another", () => {
  const card = cardOf({ storageSize: { inBytes: 600 * MIB } });
  const state = fold([created(instanceOf("first", [A], { card }))], nodes);
  const placed = placeOn(memoryOf(GIB, [A, B]), { card, state });
  assert.ok(placed.ok && rankOn(placed.instance, B));
});

Deno.test("a node without a usable backend is not taken", () => {
  const info = {
    friendlyName: "",
    machineModel: "",
    osVersion: "",
    osBuildVersion: "",
    chipId: "",
    exoVersion: "",
  };
  const start = (nodeId: NodeId, backends: ("MlxCpu" | "Vllm")[]): Event => ({
    type: "NodeStarted",
    nodeId,
    incarnation: 1,
    info: { ...info, backends },
  });
  const state = fold([start(A, []), start(B, ["Vllm"])]);
  const reason = refusal(memoryOf(GIB, [A, B]), { state });
  assert.match(reason, /node-a has backends none, one of MlxCpu needed/);
  assert.match(reason, /node-b has backends Vllm/);
  const vllm = cardOf({ backends: ["Vllm", "MlxCuda"] });
  assert.match(
    refusal(memoryOf(GIB, [A, B]), { state, card: vllm }),
    /node-b has backends Vllm, one of MlxCuda needed/,
    "Vllm forms no ring",
  );
});

Deno.test("a given node is taken although another has more memory", () => {
  const memory = new Map([...memoryOf(GIB, [A]), ...memoryOf(2 * GIB, [B])]);
  const placed = placeOn(memory, { request: placementOf({ nodeIds: [A] }) });
  assert.ok(placed.ok && rankOn(placed.instance, A));
  assert.match(
    refusal(memory, { request: placementOf({ nodeIds: [C] }) }),
    /on node node-c: it is not known/,
  );
});

Deno.test("each thing that no choice of nodes could mend is refused by name", () => {
  const cases: [Partial<PlacementRequest>, RegExp][] = [
    [{ minNodes: 17 }, /on 17 nodes: cannot distribute 16 layers across 17 nodes/],
    [{ instanceMeta: "MlxJaccl" }, /with MlxJaccl: it runs on MlxCpu, MlxMetal needed/],
    [{ sharding: "Tensor" }, /with Tensor sharding/],
    [{ config: { contextTokens: 4_096 } }, /a context of 4096 tokens: 2048 at most possible/],
  ];
  for (const [fields, message] of cases) {
    assert.match(refusal(memoryOf(GIB), { request: placementOf(fields) }), message);
  }
});

Deno.test("no nodes, and a node that has not reported its memory, are said so", () => {
  assert.match(refusal(memoryOf(GIB), { state: fold([]) }), /the cluster has no nodes/);
  const placed = placeOn(new Map());
  assert.ok(!placed.ok);
  assert.deepEqual(placed.rejected.map(({ nodeIds }) => nodeIds), [[A], [B]]);
  assert.match(placed.reason, /node node-a has not reported its memory; node node-b has not/);
});

Deno.test("placement never books the same memory twice, however placements come together", () => {
  const wish = fc.record({
    weights: fc.nat(1_000),
    kv: fc.nat(10),
    context: fc.integer({ min: 1, max: 100 }),
  });
  const free = fc.tuple(fc.nat(3_000), fc.nat(3_000), fc.nat(3_000));
  fc.assert(fc.property(fc.array(wish, { maxLength: 12 }), free, (wishes, [a, b, c]) => {
    const memory = new Map([...memoryOf(a, [A]), ...memoryOf(b, [B]), ...memoryOf(c, [C])]);
    let state = fold([nodeStarted(A), nodeStarted(B), nodeStarted(C)]);
    const booked = new Map<NodeId, number>();
    wishes.forEach(({ weights, kv, context }, n) => {
      const card = cardOf({ storageSize: { inBytes: weights }, kvBytesPerToken: kv });
      const request = placementOf({ config: { contextTokens: context } });
      const placed = placeOn(memory, { card, request, state, id: `i${n}` });
      if (!placed.ok) return;
      state = fold([created(placed.instance)], state);
      for (const [nodeId, bytes] of placed.memoryBytesByNode) {
        booked.set(nodeId, (booked.get(nodeId) ?? 0) + bytes);
      }
    });
    for (const [nodeId, bytes] of booked) {
      assert.ok(bytes <= (memory.get(nodeId)?.ramAvailableBytes ?? 0), `${nodeId}: ${bytes}`);
    }
  }));
});
