import assert from "node:assert/strict";
import {
  NO_TRIES,
  PLACEMENT_RETRY_MS,
  PLACEMENTS_IN_VAIN_MAX,
  type PlacementTries,
  placementTurn,
} from "../../../core/placement_turns.ts";
import type { State } from "../../../core/state.ts";
import { A, fold, nodeStarted } from "../../support/cluster.ts";
import { createdFor, metaId, metaOf, wished } from "../../support/meta_instances.ts";

/** One node and wishes `m0`, `m1`, … */
function wishes(count: number): State {
  const metas = Array.from({ length: count }, (_, n) => wished(metaOf(`m${n}`)));
  return fold([nodeStarted(A), ...metas]);
}

const turn = (state: State, tries: PlacementTries, uptime: number) =>
  placementTurn(state, { tries, uptime, cards: new Map() });

const names = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `m${from + n}`);

Deno.test("a new wish is tried at once, even when the node has only just started", () => {
  const { due, tries } = turn(wishes(1), NO_TRIES, 0);
  assert.deepEqual([...due], ["m0"]);
  assert.deepEqual([...tries], [["m0", 0]]);
});

Deno.test("a wish that was tried in vain rests for a second", () => {
  const { tries } = turn(wishes(1), NO_TRIES, 500);
  const rested = 500 + PLACEMENT_RETRY_MS;
  assert.deepEqual([...turn(wishes(1), tries, rested - 1).due], []);
  assert.deepEqual(turn(wishes(1), tries, rested - 1).tries, tries);
  assert.deepEqual([...turn(wishes(1), tries, rested).tries], [["m0", rested]]);
});

Deno.test("no more are tried in vain within a second than the limit, and each gets its turn", () => {
  const state = wishes(20);
  const limit = PLACEMENTS_IN_VAIN_MAX;
  assert.equal(limit, 8);
  const first = turn(state, NO_TRIES, 0);
  assert.deepEqual([...first.due], names(0, limit));
  assert.deepEqual([...turn(state, first.tries, 999).due], []);
  const second = turn(state, first.tries, 1_000);
  assert.deepEqual([...second.due], names(limit, 2 * limit));
  const third = turn(state, second.tries, 2_000);
  assert.deepEqual([...third.due], ["m16", "m17", "m18", "m19", "m0", "m1", "m2", "m3"]);
});

Deno.test("a wish that found its place makes room for the next in the same second", () => {
  const state = wishes(20);
  const { tries } = turn(state, NO_TRIES, 0);
  const placed = fold([createdFor("m0", "i"), createdFor("m1", "j")], state);
  const next = turn(placed, tries, 1);
  assert.deepEqual([...next.due], ["m8", "m9"]);
  assert.equal(next.tries.has(metaId("m0")), false, "what waits no more is forgotten");
});

Deno.test("wishes for which no search helps take nobody's turn", () => {
  const state = fold([
    nodeStarted(A),
    wished(metaOf("unknown", { modelCard: undefined })),
    wished(metaOf("away", { nodeIds: ["node-x"], pin: "strict" })),
    wished(metaOf("parked", { phase: "parked" })),
    wished(metaOf("m")),
  ]);
  assert.deepEqual([...turn(state, NO_TRIES, 0).due], ["m"]);
});
