import assert from "node:assert/strict";
import {
  BANDWIDTH_FIRST_MS,
  BANDWIDTH_PERIOD_MS,
  BANDWIDTH_RETRY_MS,
  bandwidthDueAt,
  type BandwidthTurn,
  dueLink,
} from "../../core/bandwidth_turns.ts";

const turn = (key: string, fields: Partial<BandwidthTurn> = {}): BandwidthTurn => ({
  key,
  since: 1_000,
  jitter: 0,
  ...fields,
});

Deno.test("a new link is measured soon, an old one after a period, each at its own moment", () => {
  assert.equal(bandwidthDueAt(turn("a")), 1_000);
  assert.equal(bandwidthDueAt(turn("a", { jitter: 0.5 })), 1_000 + BANDWIDTH_FIRST_MS / 2);
  const dues = [0, 0.5, 1].map((jitter) =>
    bandwidthDueAt(turn("a", { measuredAt: 5_000, jitter }))
  );
  assert.deepEqual(
    dues.map((at) => Math.round((at - 5_000) / BANDWIDTH_PERIOD_MS * 100)),
    [90, 100, 110],
  );
});

Deno.test("a measurement that failed is repeated soon, then less and less often", () => {
  const waits = [1, 2, 3, 4, 5, 6, 7, 50].map((failures) =>
    bandwidthDueAt(turn("a", { measuredAt: 5_000, failures, jitter: 0.5 })) - 5_000
  );
  const doubled = [1, 2, 4, 8, 16, 32].map((times) => times * BANDWIDTH_RETRY_MS);
  assert.deepEqual(waits, [...doubled, BANDWIDTH_PERIOD_MS, BANDWIDTH_PERIOD_MS]);
  const [early, late] = [0, 1].map((jitter) =>
    bandwidthDueAt(turn("a", { measuredAt: 0, failures: 1, jitter }))
  );
  assert.ok(early !== undefined && late !== undefined && early < late, "not all nodes at once");
});

Deno.test("the most overdue link comes first, and none before its time", () => {
  const turns = [
    turn("old", { measuredAt: 2_000 }),
    turn("older", { measuredAt: 1_000 }),
    turn("new", { since: 600_000, jitter: 0.5 }),
  ];
  assert.equal(dueLink(turns, 500_000), undefined);
  assert.equal(dueLink(turns, 541_000)?.key, "older");
  assert.equal(dueLink(turns, 2_000_000)?.key, "older");
  assert.equal(dueLink(turns.toReversed(), 2_000_000)?.key, "older");
  assert.equal(dueLink(turns.slice(2), 604_999), undefined);
  assert.equal(dueLink(turns.slice(2), 605_000)?.key, "new");
  assert.equal(dueLink([], 605_000), undefined);
});
