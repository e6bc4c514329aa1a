import assert from "node:assert/strict";
import { refuseContradiction } from "../../core/contradictions.ts";
import { A, B, C, cardOf, placementOf } from "../support/fixtures.ts";
import { rejects } from "../support/rejects.ts";

type Fields = Parameters<typeof placementOf>[0];

const CONTRADICTIONS: readonly [Fields, RegExp][] = [
  [{ nodeIds: [A], excludedNodeIds: [B, A] }, /node node-a is both wanted and excluded/],
  [{ nodeLayers: { [B]: 16 }, excludedNodeIds: [B] }, /node node-b is both wanted and excluded/],
  [{ exact: true }, /exactly the given nodes are wanted and none is given/],
  [{ exact: true, nodeIds: [A, A], minNodes: 2 }, /exactly the given nodes .* found 1, at least 2/],
  [{ exact: true, nodeIds: [A], nodeLayers: { [A]: 8, [C]: 8 } }, /node node-c gets layers and is/],
  [{ sharding: "Tensor", nodeLayers: { [A]: 16 } }, /by hand and Tensor sharding is wanted/],
  [{ nodeIds: [B], nodeLayers: { [A]: 16 } }, /node node-b is wanted and gets no layers/],
  [{ nodeLayers: { [A]: 8, [B]: 9 } }, /17 layers are divided by hand, 16 needed/],
];
for (const [fields, message] of CONTRADICTIONS) {
  Deno.test(`a placement is refused that says: ${message.source}`, () => {
    rejects(() => refuseContradiction(placementOf(fields), cardOf()), "invalid_request", message);
  });
}

Deno.test("what fits together is not refused", () => {
  const fields: readonly Fields[] = [
    {},
    { exact: true, nodeIds: [A, B], minNodes: 2 },
    { nodeIds: [A], excludedNodeIds: [B] },
    { exact: true, nodeIds: [A, B], nodeLayers: { [A]: 4, [B]: 12 } },
  ];
  for (const one of fields) refuseContradiction(placementOf(one), cardOf());
  refuseContradiction(placementOf({ nodeLayers: { [A]: 3 } }));
  assert.throws(() => refuseContradiction(placementOf({ exact: true })), { hint: /--node/ });
});
