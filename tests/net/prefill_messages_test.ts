/** What a node is asked for that is to read a prompt: refused before its tokens are looked at. */
import assert from "node:assert/strict";
import { encodeFrame } from "../../core/frame_codec.ts";
import { decodeQuestion, encodeQuestion, tokensOf } from "../../net/prefill_messages.ts";
import { instanceId } from "../support/fixtures.ts";

const LAYER = { kvHeads: 1, keyDim: 16, valueDim: 16 };
const REQUEST = {
  ...{ tokenIds: [1, 70_000, 2 ** 32 - 1], startPos: 0, stopPos: 2 },
  fingerprint: { weights: "w", layout: "l", kvType: "q8", blockPositions: 2, layers: [LAYER] },
};
const UNREADABLE = { code: "invalid_request", message: /Cannot read what prompt/ };

Deno.test("a question is read in two steps, wherever it lies in memory", () => {
  const bytes = encodeQuestion(instanceId("i"), REQUEST);
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  const question = decodeQuestion(shifted.subarray(1));
  const { tokenIds, ...request } = REQUEST;
  assert.deepEqual([question.instanceId, question.request], [instanceId("i"), request]);
  assert.deepEqual(tokensOf(question), tokenIds);
});

Deno.test("tokens that are more or fewer than the positions need are refused", () => {
  for (const stopPos of [1, 3]) {
    const question = decodeQuestion(encodeQuestion(instanceId("i"), { ...REQUEST, stopPos }));
    assert.throws(() => tokensOf(question), UNREADABLE);
  }
});

Deno.test("what is no question is refused, and what is no header of one is not parsed", () => {
  const bytes = encodeQuestion(instanceId("i"), REQUEST);
  const refused = (wrong: Uint8Array) => assert.throws(() => decodeQuestion(wrong), UNREADABLE);
  refused(new Uint8Array());
  refused(bytes.subarray(0, 7));
  refused(bytes.subarray(0, -1));
  refused(encodeFrame({ instanceId: "i" }));
  refused(encodeFrame({ instanceId: "i", request: REQUEST, more: "x".repeat(512 * 1024) }));
});
