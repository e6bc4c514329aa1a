import assert from "node:assert/strict";
import { differenceOf, type KvFingerprint, PrefillRequest, RingFile } from "../../core/prefill.ts";
import { RING_BYTES_MIN } from "../../core/ring.ts";

const LAYER = { kvHeads: 2, keyDim: 64, valueDim: 64 };
const OWN: KvFingerprint = {
  weights: "w",
  layout: "l",
  kvType: "float16",
  blockPositions: 32,
  layers: [LAYER, LAYER],
};

Deno.test("engines that differ in anything say in what", () => {
  assert.equal(differenceOf(OWN, structuredClone(OWN)), undefined);
  const other = (change: Partial<KvFingerprint>) => differenceOf(OWN, { ...OWN, ...change });
  assert.equal(other({ weights: "v" }), "weights is v, w needed");
  assert.equal(other({ layout: "m" }), "layout is m, l needed");
  assert.equal(other({ kvType: "q8" }), "kvType is q8, float16 needed");
  assert.equal(other({ blockPositions: 16 }), "blockPositions is 16, 32 needed");
  assert.equal(other({ layers: [LAYER] }), "it has 1 layers, 2 needed");
  assert.equal(
    other({ layers: [LAYER, { ...LAYER, kvHeads: 1 }] }),
    "layer 1 has 1 KV heads of 64 and 64, 2 KV heads of 64 and 64 needed",
  );
});

Deno.test("a request and a ring have limits", () => {
  const request = { tokenIds: [1, 2], startPos: 0, stopPos: 1, fingerprint: OWN };
  assert.deepEqual(PrefillRequest.parse(request), request);
  assert.ok(!PrefillRequest.safeParse({ ...request, tokenIds: [1, 2 ** 32] }).success);
  assert.ok(!PrefillRequest.safeParse({ ...request, stopPos: -1 }).success);
  assert.ok(RingFile.safeParse({ path: "/r", bytes: RING_BYTES_MIN }).success);
  assert.ok(!RingFile.safeParse({ path: "/r", bytes: RING_BYTES_MIN - 1 }).success);
});
