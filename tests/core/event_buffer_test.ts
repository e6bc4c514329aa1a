/** Rows B1 to B6 of the control plane's spec. */
import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import {
  BUFFER_EVENTS_MAX,
  chained,
  type ChainedEvent,
  drain,
  EMPTY_BUFFER,
  type EventBuffer,
  ingest,
} from "../../core/event_buffer.ts";
import type { Epoch } from "../../core/lineage.ts";
import { A, taskId } from "../support/fixtures.ts";

const EPOCH: Epoch = { clock: 1, nodeId: A };

function event(idx: number, text = "t", fields: Partial<ChainedEvent> = {}): ChainedEvent {
  const deleted = { type: "TaskDeleted" as const, taskId: taskId(`${text}${idx}`) };
  return { idx, epoch: EPOCH, event: deleted, previous: EPOCH, ...fields };
}

/** A buffer before `next`, and what comes of it. */
class Reader {
  buffer: EventBuffer = EMPTY_BUFFER;
  constructor(public next = 0) {}

  take(...events: readonly ChainedEvent[]): string[] {
    return events.map((event) => {
      const { buffer, outcome } = ingest(this.buffer, event, this.next);
      this.buffer = buffer;
      return outcome;
    });
  }

  drain(): number[] {
    const head = { epoch: EPOCH, idx: this.next - 1 };
    const { buffer, events } = drain(this.buffer, head);
    this.buffer = buffer;
    this.next += events.length;
    return events.map(({ idx }) => idx);
  }
}

Deno.test("B1: a new buffer has nothing to release", () => {
  const reader = new Reader();
  deepEqual([reader.drain(), reader.next], [[], 0]);
});

Deno.test("B2: events are released in order, whatever order they came in", () => {
  for (const order of [[0, 1, 2], [2, 0, 1]]) {
    const reader = new Reader();
    reader.take(...order.map((idx) => event(idx)));
    deepEqual([reader.drain(), reader.next, reader.buffer.size], [[0, 1, 2], 3, 0]);
  }
});

Deno.test("B3: what is behind a gap is held until the gap is filled", () => {
  const reader = new Reader();
  reader.take(event(0), event(2));
  deepEqual([reader.drain(), reader.next, reader.buffer.size], [[0], 1, 1]);
  reader.take(event(1));
  deepEqual(reader.drain(), [1, 2]);
});

Deno.test("B4: of two events for one index the first wins; changed: the other is not fatal", () => {
  const reader = new Reader();
  deepEqual(reader.take(event(0), event(1), event(1, "u"), event(1)), [
    "held",
    "held",
    "conflict",
    "duplicate",
  ]);
  const other = { clock: 2, nodeId: A };
  deepEqual(reader.take(event(1, "t", { epoch: other })), ["conflict"]);
  deepEqual(reader.buffer.get(1), event(1));
});

Deno.test("B5: what was released before is ignored", () => {
  const reader = new Reader(2);
  deepEqual(reader.take(event(0), event(1)), ["stale", "stale"]);
  equal(reader.buffer.size, 0);
});

Deno.test("B6: the next is released although a later one has come", () => {
  const reader = new Reader(2);
  reader.take(event(4), event(2));
  deepEqual([reader.drain(), reader.next, [...reader.buffer.keys()]], [[2], 3, [4]]);
});

Deno.test("a full buffer lets go of the furthest event for a nearer one", () => {
  const reader = new Reader();
  reader.take(...Array.from({ length: BUFFER_EVENTS_MAX }, (_, at) => event(at + 1)));
  deepEqual(reader.take(event(BUFFER_EVENTS_MAX + 1), event(0)), ["full", "held"]);
  equal(reader.drain().length, BUFFER_EVENTS_MAX);
  equal(reader.buffer.size, 0);
});

Deno.test("an event that follows another epoch than this log's is not released", () => {
  const foreign = ingest(EMPTY_BUFFER, event(3, "t", { previous: EPOCH }), 3).buffer;
  const head = { epoch: { clock: 0, nodeId: A }, idx: 2 };
  deepEqual(drain(foreign, head).events, []);
  deepEqual(drain(foreign, { idx: 2 }).events, []);
  equal(drain(foreign, { epoch: EPOCH, idx: 2 }).events.length, 1);
});

Deno.test("the first event of all follows nothing", () => {
  const buffer = ingest(EMPTY_BUFFER, event(0, "t", { previous: undefined }), 0).buffer;
  equal(drain(buffer, { idx: -1 }).events.length, 1);
});

Deno.test("a page chains each event to the one before it", () => {
  const second = { clock: 2, nodeId: A };
  const page = chained({ idx: -1 }, [event(0), event(1, "t", { epoch: second }), event(2)]);
  deepEqual(page.map(({ previous }) => previous?.clock), [undefined, 1, 2]);
});

Deno.test("whatever order and number of copies events come in, each is released once", () => {
  fc.assert(fc.property(
    fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 200 }),
    (arrivals) => {
      const reader = new Reader();
      const released = arrivals.flatMap((idx) => {
        reader.take(event(idx));
        return reader.drain();
      });
      const missing = Array.from({ length: 32 }, (_, idx) => idx)
        .find((idx) => !arrivals.includes(idx)) ?? 0;
      deepEqual(released, Array.from({ length: missing }, (_, idx) => idx));
    },
  ));
});
