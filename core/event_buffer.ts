import type { IndexedEvent } from "./events.ts";
import { compareEpochs, type Epoch, type Head } from "./lineage.ts";
import { drop, put } from "./state.ts";

/** Events that a node holds until the ones before them have come; further ones are asked for. */
export const BUFFER_EVENTS_MAX = 1_024;

/** An event with the epoch of the one before it: by it a follower sees that it is of its log. */
export interface ChainedEvent extends IndexedEvent {
  readonly previous: Epoch | undefined;
}

/** Events that came before their turn, by index. */
export type EventBuffer = ReadonlyMap<number, ChainedEvent>;

/** Nothing is held. */
export const EMPTY_BUFFER: EventBuffer = new Map();

/** What became of an event that came: only `held` changed the buffer. */
export type Ingested = "held" | "stale" | "duplicate" | "conflict" | "full";

/**
 * Takes an event in. One whose turn has passed is ignored, and so is one that is held already; of
 * two different ones for one index the first stays. A full buffer keeps what comes first.
 */
export function ingest(
  buffer: EventBuffer,
  event: ChainedEvent,
  next: number,
): { buffer: EventBuffer; outcome: Ingested } {
  if (event.idx < next) return { buffer, outcome: "stale" };
  const held = buffer.get(event.idx);
  if (held) return { buffer, outcome: isSame(held, event) ? "duplicate" : "conflict" };
  const furthest = buffer.size < BUFFER_EVENTS_MAX ? Infinity : Math.max(...buffer.keys());
  if (event.idx > furthest) return { buffer, outcome: "full" };
  return { buffer: put(drop(buffer, furthest), event.idx, event), outcome: "held" };
}

/**
 * Releases what follows `head` without a gap. `isForeign`: the next event is here and does not
 * follow it, so this log has parted from the one that the events come from.
 */
export function drain(
  buffer: EventBuffer,
  head: Head,
): { buffer: EventBuffer; events: readonly IndexedEvent[]; isForeign: boolean } {
  const events: IndexedEvent[] = [];
  let epoch = head.epoch;
  let next = buffer.get(head.idx + 1);
  while (next && isSameEpoch(next.previous, epoch)) {
    events.push({ idx: next.idx, epoch: next.epoch, event: next.event });
    epoch = next.epoch;
    next = buffer.get(next.idx + 1);
  }
  return {
    buffer: drop(buffer, ...events.map(({ idx }) => idx)),
    events,
    isForeign: next !== undefined,
  };
}

/** A page of events, each with the epoch of the one before it. */
export function chained(previous: Head, events: readonly IndexedEvent[]): ChainedEvent[] {
  return events.map((event, at) => ({ ...event, previous: (events[at - 1] ?? previous).epoch }));
}

function isSameEpoch(a: Epoch | undefined, b: Epoch | undefined): boolean {
  return a && b ? compareEpochs(a, b) === 0 : a === b;
}

function isSame(a: ChainedEvent, b: ChainedEvent): boolean {
  return compareEpochs(a.epoch, b.epoch) === 0 &&
    JSON.stringify(a.event) === JSON.stringify(b.event);
}
