import assert from "node:assert/strict";
import fc from "fast-check";
import {
  closedAt,
  type ClosedSegment,
  compareEpochs,
  compareHeads,
  EMPTY_LINEAGE,
  type Epoch,
  extend,
  isInHistory,
  type Lineage,
  LINEAGE_SEGMENTS_MAX,
  openSegment,
  segmentsBeyond,
  withBranch,
} from "../../core/lineage.ts";
import { A, B } from "../support/fixtures.ts";

const epochOf = (clock: number, nodeId = A): Epoch => ({ clock, nodeId });
const segment = (clock: number, firstIdx: number, lastIdx: number, nodeId = A): ClosedSegment => ({
  epoch: epochOf(clock, nodeId),
  firstIdx,
  lastIdx,
});
const lineageOf = (...segments: Lineage["segments"]): Lineage => ({ segments, forgottenClock: -1 });

Deno.test("of two epochs the one of the higher clock is newer, then that of the higher node", () => {
  assert.ok(compareEpochs(epochOf(1, B), epochOf(2, A)) < 0);
  assert.ok(compareEpochs(epochOf(2, B), epochOf(2, A)) > 0);
  assert.ok(compareEpochs(epochOf(2, A), epochOf(2, B)) < 0);
  assert.equal(compareEpochs(epochOf(2), epochOf(2)), 0);
});

Deno.test("a head is ahead by its epoch, then by its index; one without an epoch has nothing", () => {
  const none = { idx: -1 };
  assert.ok(compareHeads({ epoch: epochOf(2), idx: 0 }, { epoch: epochOf(1), idx: 9 }) > 0);
  assert.ok(compareHeads({ epoch: epochOf(1), idx: 3 }, { epoch: epochOf(1), idx: 9 }) < 0);
  assert.ok(compareHeads(none, { epoch: epochOf(1), idx: 0 }) < 0);
  assert.ok(compareHeads({ epoch: epochOf(1), idx: 0 }, none) > 0);
  assert.equal(compareHeads(none, none), 0);
});

Deno.test("an epoch ends where the next begins", () => {
  let lineage = extend(EMPTY_LINEAGE, epochOf(1), 0);
  assert.equal(extend(lineage, epochOf(1), 1), lineage, "it goes on");
  lineage = extend(lineage, epochOf(2, B), 5);
  assert.deepEqual(lineage, lineageOf(segment(1, 0, 4), { epoch: epochOf(2, B), firstIdx: 5 }));
  assert.deepEqual(openSegment(lineage)?.epoch, epochOf(2, B));
  assert.ok(isInHistory(lineage, { epoch: epochOf(1), idx: 4 }));
  assert.ok(!isInHistory(lineage, { epoch: epochOf(1), idx: 5 }), "of a tail that was given up");
  assert.ok(isInHistory(lineage, { epoch: epochOf(2, B), idx: 1_000 }));
  assert.ok(!isInHistory(closedAt(lineage, 9), { epoch: epochOf(2, B), idx: 10 }));
});

Deno.test("a branch is joined to what is known of its epochs, and once", () => {
  const lineage = lineageOf(segment(1, 0, 4), { epoch: epochOf(3), firstIdx: 5 });
  const branch = [segment(2, 8, 9, B), segment(1, 5, 7)];
  const merged = withBranch(lineage, branch);
  const expected = lineageOf(segment(1, 0, 7), segment(2, 8, 9, B), {
    epoch: epochOf(3),
    firstIdx: 5,
  });
  assert.deepEqual(merged, expected);
  assert.deepEqual(withBranch(merged, branch), merged);
});

Deno.test("what is beyond a lineage is what it has not, before and after what it has", () => {
  const known = lineageOf(segment(1, 3, 5), { epoch: epochOf(2), firstIdx: 9 });
  assert.deepEqual(segmentsBeyond([segment(1, 0, 9)], known), [segment(1, 0, 2), segment(1, 6, 9)]);
  assert.deepEqual(segmentsBeyond([segment(1, 3, 5), segment(2, 9, 99)], known), []);
  assert.deepEqual(segmentsBeyond([segment(2, 0, 4, B)], known), [segment(2, 0, 4, B)]);
  const forgetful = { ...known, forgottenClock: 2 };
  assert.deepEqual(segmentsBeyond([segment(2, 0, 4, B)], forgetful), []);
});

Deno.test("the lineage forgets its oldest epochs, and takes what they did as known", () => {
  let lineage = EMPTY_LINEAGE;
  for (let clock = 1; clock <= LINEAGE_SEGMENTS_MAX + 2; clock++) {
    lineage = extend(lineage, epochOf(clock), clock);
  }
  assert.equal(lineage.segments.length, LINEAGE_SEGMENTS_MAX);
  assert.equal(lineage.forgottenClock, 2);
  assert.ok(isInHistory(lineage, { epoch: epochOf(2, B), idx: 99 }));
  assert.ok(!isInHistory(lineage, { epoch: epochOf(3, B), idx: 99 }));
  const old = withBranch(lineage, [segment(1, 7, 8)]);
  assert.deepEqual(old, lineage, "the oldest goes, not the last to come");
});

Deno.test("a lineage with a branch knows all that either knows, and no more", () => {
  const anySegment = fc.record({
    clock: fc.integer({ min: 1, max: 4 }),
    first: fc.nat(9),
    length: fc.nat(5),
  }).map(({ clock, first, length }) => segment(clock, first, first + length));
  const some = fc.array(anySegment, { maxLength: 5 });
  fc.assert(fc.property(some, some, (own, branch) => {
    const lineage = withBranch(EMPTY_LINEAGE, own);
    const beyond = segmentsBeyond(branch, lineage);
    const merged = withBranch(lineage, beyond);
    for (let clock = 1; clock <= 4; clock++) {
      for (let idx = 0; idx < 16; idx++) {
        const stamp = { epoch: epochOf(clock), idx };
        const knows = (segments: ClosedSegment[]) => isInHistory(lineageOf(...segments), stamp);
        assert.equal(isInHistory(merged, stamp), knows(own) || knows(branch));
        assert.equal(knows(beyond), knows(branch) && !knows(own));
      }
    }
  }));
});
