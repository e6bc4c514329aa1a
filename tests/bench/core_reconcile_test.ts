import assert from "node:assert/strict";
import { META_INSTANCES, NODE_COUNTS, reconcileTick, tickMs } from "../../bench/core/reconcile.ts";
import { SEARCHES_MAX } from "../../core/placement_turns.ts";

const SMALLEST = Math.min(...NODE_COUNTS);

Deno.test("the tick that is timed over satisfied wishes has nothing to decide", () => {
  const tick = reconcileTick("satisfied", SMALLEST);
  assert.equal(
    tick().events.filter(({ type }) => type === "MetaInstanceReady").length,
    META_INSTANCES,
  );
  assert.deepEqual(tick().events, []);
});

Deno.test("the tick that is timed over waiting wishes tries some of them, and says no more", () => {
  const tick = reconcileTick("waiting", SMALLEST);
  for (let tried = 0; tried < META_INSTANCES; tried += SEARCHES_MAX) {
    assert.equal(tick().events.length, SEARCHES_MAX);
  }
  assert.deepEqual(tick().events, []);
});

Deno.test("ticks are timed until nothing is left to decide, and after that", () => {
  const { longest, settled } = tickMs(reconcileTick("satisfied", SMALLEST));
  assert.ok(longest > 0 && settled > 0);
});
