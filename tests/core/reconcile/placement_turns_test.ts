import assert from "node:assert/strict";
import { NodeId } from "../../../core/ids.ts";
import {
  NO_TRIES,
  NODES_SEARCHED_MAX,
  PLACEMENT_MEMORY_STEP_BYTES,
  PLACEMENT_RETRY_MS,
  PLACEMENT_RETRY_MS_MAX,
  type PlacementTries,
  placementTurn,
  SEARCHES_MAX,
} from "../../../core/placement_turns.ts";
import type { State } from "../../../core/state.ts";
import { GIB } from "../../../core/units.ts";
import {
  A,
  B,
  downloaded,
  fold,
  memoryOf,
  nodeStarted,
  telemetryOf,
} from "../../support/fixtures.ts";
import { gathered } from "../../support/control_plane.ts";
import { createdFor, edge, metaId, metaOf, wished } from "../../support/meta_instances.ts";

/** One node and wishes `m0`, `m1`, … */
function wishes(count: number): State {
  const metas = Array.from({ length: count }, (_, n) => wished(metaOf(`m${n}`)));
  return fold([nodeStarted(A), ...metas]);
}

const turn = (state: State, tries: PlacementTries, uptime: number, freeBytes = GIB) =>
  placementTurn(state, {
    tries,
    uptime,
    cards: new Map(),
    telemetry: telemetryOf(memoryOf(freeBytes)),
  });

const names = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `m${from + n}`);

const SECOND = PLACEMENT_RETRY_MS;

Deno.test("a new wish is tried at once, even when the node has only just started", () => {
  const { due, tries } = turn(wishes(1), NO_TRIES, 0);
  assert.deepEqual([...due], ["m0"]);
  assert.deepEqual(tries.tried.get(metaId("m0"))?.at, 0);
});

Deno.test("a wish that was tried in vain rests for a second, whatever changes", () => {
  const state = wishes(1);
  const { tries } = turn(state, NO_TRIES, 500);
  const changed = fold([nodeStarted(B)], state);
  assert.deepEqual([...turn(changed, tries, 500 + SECOND - 1).due], []);
  assert.deepEqual([...turn(changed, tries, 500 + SECOND).due], ["m0"]);
});

Deno.test("while nothing gets better nobody is tried again, but for good measure", () => {
  const state = wishes(1);
  const { tries } = turn(state, NO_TRIES, 0);
  const less = turn(state, tries, SECOND, GIB / 2);
  assert.deepEqual([...less.due], []);
  assert.deepEqual([...turn(state, less.tries, PLACEMENT_RETRY_MS_MAX - 1, GIB / 2).due], []);
  assert.deepEqual([...turn(state, less.tries, PLACEMENT_RETRY_MS_MAX, GIB / 2).due], ["m0"]);
});

Deno.test("on a node with CUDA more free memory of its GPU is what gives hope", () => {
  const state = wishes(1);
  const info = { type: "NodeBackends" as const, backends: ["MlxCuda" as const] };
  const cuda = fold([gathered(A, info)], state);
  const turnWith = (tries: PlacementTries, uptime: number, ram: number, vram: number) => {
    const gpu = { totalBytes: 8 * GIB, availableBytes: vram };
    const memory = new Map([[A, { ramTotalBytes: ram, ramAvailableBytes: ram, gpu }]]);
    return placementTurn(cuda, { tries, uptime, cards: new Map(), telemetry: { memory } });
  };
  const { tries } = turnWith(NO_TRIES, 0, GIB, GIB);
  const moreRam = turnWith(tries, SECOND, 4 * GIB, GIB);
  assert.deepEqual([...moreRam.due], []);
  assert.deepEqual([...turnWith(moreRam.tries, 2 * SECOND, 4 * GIB, 2 * GIB).due], ["m0"]);
});

Deno.test("a node, a way, an instance or files that came or went are worth another search", () => {
  const state = fold([nodeStarted(B), createdFor("gone", "i")], wishes(1));
  const { tries } = turn(state, NO_TRIES, 0);
  const after = (
    ...events: Parameters<typeof fold>[0]
  ) => [...turn(fold(events, state), tries, SECOND).due];
  assert.deepEqual(after(), []);
  assert.deepEqual(after({ type: "NodeTimedOut", nodeId: B }), ["m0"]);
  assert.deepEqual(after(edge(A, B, "10.0.0.2")), ["m0"]);
  const { instanceId } = [...state.instances.values()][0] ?? assert.fail();
  assert.deepEqual(after({ type: "InstanceDeleted", instanceId }), ["m0"]);
  assert.deepEqual(after(downloaded(B)), ["m0"]);
});

Deno.test("free memory that has grown by a step since it was least is worth another search", () => {
  const state = wishes(1);
  const step = PLACEMENT_MEMORY_STEP_BYTES;
  const { tries } = turn(state, NO_TRIES, 0);
  assert.deepEqual([...turn(state, tries, SECOND, GIB + step - 1).due], []);
  assert.deepEqual([...turn(state, tries, SECOND, GIB + step).due], ["m0"]);
  const half = turn(state, tries, SECOND, GIB + step / 2);
  assert.deepEqual([...half.due], []);
  assert.deepEqual([...turn(state, half.tries, SECOND, GIB + step).due], ["m0"], "bit by bit");
  const less = turn(state, tries, SECOND, GIB - step);
  assert.deepEqual([...less.due], []);
  const again = turn(state, less.tries, 2 * SECOND, GIB);
  assert.deepEqual([...again.due], ["m0"]);
  assert.deepEqual([...turn(state, again.tries, 3 * SECOND, GIB).due], [], "seen");
});

Deno.test("no more are tried in vain within a second than the limit, and each gets its turn", () => {
  const state = wishes(20);
  assert.equal(SEARCHES_MAX, 8);
  const first = turn(state, NO_TRIES, 0);
  assert.deepEqual([...first.due], names(0, 8));
  assert.deepEqual([...turn(state, first.tries, SECOND - 1).due], []);
  const second = turn(state, first.tries, SECOND);
  assert.deepEqual([...second.due], names(8, 16));
  const third = turn(fold([nodeStarted(B)], state), second.tries, 2 * SECOND);
  assert.deepEqual([...third.due], [...names(16, 20), ...names(0, 4)]);
});

Deno.test("the more nodes there are to look through, the fewer searches; one at least", () => {
  const due = (nodeCount: number) => {
    const nodes = Array.from({ length: nodeCount - 1 }, (_, n) => NodeId.parse(`n${n}`));
    const state = fold(nodes.map((nodeId) => nodeStarted(nodeId)), wishes(20));
    return turn(state, NO_TRIES, 0).due.size;
  };
  assert.equal(due(NODES_SEARCHED_MAX / SEARCHES_MAX), SEARCHES_MAX);
  assert.equal(due(NODES_SEARCHED_MAX / 2), 2);
  assert.equal(due(NODES_SEARCHED_MAX + 1), 1);
});

Deno.test("a wish that found its place makes room for the next in the same second", () => {
  const state = wishes(20);
  const { tries } = turn(state, NO_TRIES, 0);
  const placed = fold([createdFor("m0", "i"), createdFor("m1", "j")], state);
  const next = turn(placed, tries, 1);
  assert.deepEqual([...next.due], ["m8", "m9"]);
  assert.equal(next.tries.tried.has(metaId("m0")), false, "what waits no more is forgotten");
});

Deno.test("wishes for which no search helps take nobody's turn", () => {
  const hopeless = [
    wished(metaOf("unknown", { modelCard: undefined })),
    wished(metaOf("away", { nodeIds: ["node-x"], pin: "strict" })),
    wished(metaOf("parked", { phase: "parked" })),
  ];
  const state = fold([nodeStarted(A), ...hopeless]);
  assert.deepEqual(turn(state, NO_TRIES, 0), { due: new Set(), tries: NO_TRIES });
  assert.deepEqual([...turn(fold([wished(metaOf("m"))], state), NO_TRIES, 0).due], ["m"]);
});
