import assert from "node:assert/strict";
import {
  medianTickMs,
  META_INSTANCES,
  NODE_COUNTS,
  reconcileTick,
} from "../../bench/core/reconcile.ts";
import { PLACEMENTS_IN_VAIN_MAX } from "../../core/placement_turns.ts";

const SMALLEST = Math.min(...NODE_COUNTS);

Deno.test("the tick that is timed over satisfied wishes has nothing to decide", () => {
  const tick = reconcileTick("satisfied", SMALLEST);
  assert.equal(
    tick().events.filter(({ type }) => type === "MetaInstanceReady").length,
    META_INSTANCES,
  );
  const { events, nextAt } = tick();
  assert.deepEqual(events, []);
  assert.ok(nextAt !== undefined, "a silent node would be due");
});

Deno.test("the tick that is timed over waiting wishes tries some of them, and says no more", () => {
  const tick = reconcileTick("waiting", SMALLEST);
  for (let tried = 0; tried < META_INSTANCES; tried += PLACEMENTS_IN_VAIN_MAX) {
    assert.equal(tick().events.length, PLACEMENTS_IN_VAIN_MAX);
  }
  assert.deepEqual(tick().events, []);
});

Deno.test("a median tick takes some time", () => {
  assert.ok(medianTickMs(reconcileTick("satisfied", SMALLEST)) > 0);
});
