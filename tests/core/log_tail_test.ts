import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { apply } from "../../core/apply.ts";
import type { IndexedEvent } from "../../core/events.ts";
import {
  eventsAfter,
  eventsFrom,
  headOf,
  isSameHead,
  type LogTail,
  TAIL_EVENTS_MAX,
  tailAt,
  withEvent,
} from "../../core/log_tail.ts";
import { EMPTY_STATE } from "../../core/state.ts";
import { A, B, fold, nodeStarted, taskId } from "../support/fixtures.ts";

const event = (idx: number, clock = 1): IndexedEvent => ({
  idx,
  epoch: { clock, nodeId: A },
  event: { type: "TaskDeleted", taskId: taskId(`t${idx}`) },
});

const tailOf = (count: number): LogTail =>
  Array.from({ length: count }, (_, idx) => event(idx)).reduce(withEvent, tailAt(EMPTY_STATE));

const at = (idx: number, clock = 1) => ({ epoch: { clock, nodeId: A }, idx });

Deno.test("L1, L2, L3: the tail gives what follows a head, at most a page", () => {
  const tail = tailOf(200);
  const found = (idx: number, limit: number) => eventsAfter(tail, at(idx), limit);
  deepEqual(eventsAfter(tail, { idx: -1 }, 5)?.map(({ idx }) => idx), [0, 1, 2, 3, 4]);
  deepEqual(found(2, 4), [event(3), event(4), event(5), event(6)]);
  equal(found(60, 100)?.length, 100);
  equal(found(60, 1_000)?.length, 139);
  deepEqual(found(199, 10), []);
});

Deno.test("a head of another history is not found, nor one before or beyond the tail", () => {
  const tail = tailOf(10);
  equal(eventsAfter(tail, at(5, 2), 10), undefined);
  equal(eventsAfter(tail, at(10), 10), undefined);
  equal(eventsAfter(tail, { idx: 5 }, 10), undefined);
  const later = withEvent(tailAt(fold([nodeStarted(A), nodeStarted(B)])), event(2));
  equal(eventsAfter(later, at(0), 10), undefined);
  deepEqual(eventsAfter(later, at(1), 10), [event(2)]);
});

Deno.test("a tail that grows too long loses its oldest page", () => {
  const tail = tailOf(TAIL_EVENTS_MAX + 100);
  ok(tail.base.idx > 0 && tail.base.idx <= 128);
  const { base } = tail;
  equal(eventsAfter(tail, base, 1)?.[0]?.idx, base.idx + 1);
  equal(eventsAfter(tail, at(base.idx - 1), 1), undefined);
});

Deno.test("the tail gives events by their index alone, as far as it goes back", () => {
  const count = TAIL_EVENTS_MAX + 100;
  const tail = tailOf(count);
  const oldest = tail.base.idx + 1;
  ok(oldest > 0);
  equal(eventsFrom(tail, oldest - 1, 10), undefined);
  deepEqual(eventsFrom(tail, oldest, 2), [event(oldest), event(oldest + 1)]);
  deepEqual(eventsFrom(tail, count - 2, 10), [event(count - 2), event(count - 1)]);
  deepEqual(eventsFrom(tail, count, 10), []);
  deepEqual(eventsFrom(tail, count + 1_000, 10), []);
  equal(eventsFrom(tail, oldest + 63, 130)?.length, 130);
});

Deno.test("heads are the same when their epoch and index are", () => {
  equal(isSameHead({ idx: -1 }, { idx: -1 }), true);
  equal(isSameHead({ idx: -1 }, at(-1)), false);
  equal(isSameHead(at(1), at(2)), false);
  deepEqual(headOf(EMPTY_STATE), { idx: -1 });
  deepEqual(headOf(fold([nodeStarted(A)])), at(0));
});

Deno.test("what a tail gives leads from any of its states to the last", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 150 }), fc.nat(), (count, from) => {
    const states = [EMPTY_STATE];
    let tail = tailAt(EMPTY_STATE);
    for (let idx = 0; idx < count; idx++) {
      const next = event(idx, 1 + Math.floor(idx / 10));
      states.push(apply(states[idx] ?? EMPTY_STATE, next));
      tail = withEvent(tail, next);
    }
    const state = states[from % states.length] ?? EMPTY_STATE;
    const rest = eventsAfter(tail, headOf(state), 1_000) ?? [];
    deepEqual(rest.reduce(apply, state), states.at(-1));
  }));
});
