import { assert } from "./errors.ts";
import type { IndexedEvent } from "./events.ts";
import { compareHeads, type Head, openSegment } from "./lineage.ts";
import type { State } from "./state.ts";

/** Events that a node can still serve to those who are behind; for older ones a snapshot is sent. */
export const TAIL_EVENTS_MAX = 4_096;

/** Events of one page of the tail; a page that is full is never copied again. */
const PAGE_EVENTS = 64;

/** The newest events of a log, so that others can catch up, and where they begin. */
export interface LogTail {
  /** What the log was before the first event of the tail. */
  readonly base: Head;
  readonly pages: readonly (readonly IndexedEvent[])[];
}

/** How far a state goes. */
export function headOf({ lineage, lastEventAppliedIdx }: State): Head {
  const epoch = openSegment(lineage)?.epoch;
  return { ...(epoch ? { epoch } : {}), idx: lastEventAppliedIdx };
}

/** Whether two heads are the same; equal heads mean equal states. */
export function isSameHead(a: Head, b: Head): boolean {
  return compareHeads(a, b) === 0 && a.idx === b.idx;
}

/** A tail without events, behind a state. */
export function tailAt(state: State): LogTail {
  return { base: headOf(state), pages: [] };
}

/** The tail with one more event, and without its oldest page when it has become too long. */
export function withEvent({ base, pages }: LogTail, event: IndexedEvent): LogTail {
  const last = pages.at(-1);
  const longer = last && last.length < PAGE_EVENTS
    ? [...pages.slice(0, -1), [...last, event]]
    : [...pages, [event]];
  const [first, ...rest] = longer;
  const oldest = first?.at(-1);
  if (longer.length * PAGE_EVENTS <= TAIL_EVENTS_MAX || !oldest) return { base, pages: longer };
  return { base: { epoch: oldest.epoch, idx: oldest.idx }, pages: rest };
}

/**
 * At most `limit` events that follow `head` in this log; undefined when `head` is not of this log,
 * or too old to tell. Exact: a (epoch, index) names one event, and by it all events before.
 */
export function eventsAfter(
  tail: LogTail,
  head: Head,
  limit: number,
): readonly IndexedEvent[] | undefined {
  const offset = head.idx - tail.base.idx;
  if (offset < 0) return undefined;
  const at = offset === 0 ? tail.base : eventAt(tail, offset - 1);
  if (!at || !isSameHead(head, { epoch: at.epoch, idx: head.idx })) return undefined;
  return eventsAt(tail, offset, limit);
}

/** A part of a log as its node still has it. */
export interface LogPage {
  /**
   * From here on events can be had. When it is after what was asked for, it is the oldest: those
   * before it have gone into the snapshot.
   */
  readonly oldestIdx: number;
  readonly events: readonly IndexedEvent[];
}

/** At most `limit` events from index `idx` on; undefined when the tail begins after it. */
export function eventsFrom(
  tail: LogTail,
  idx: number,
  limit: number,
): readonly IndexedEvent[] | undefined {
  const offset = idx - tail.base.idx - 1;
  return offset < 0 ? undefined : eventsAt(tail, offset, limit);
}

function eventsAt(tail: LogTail, offset: number, limit: number): IndexedEvent[] {
  const page = Math.floor(offset / PAGE_EVENTS);
  const pages = tail.pages.slice(page, page + Math.ceil(limit / PAGE_EVENTS) + 1);
  return pages.flat().slice(offset % PAGE_EVENTS, offset % PAGE_EVENTS + limit);
}

/** Pages but the last are full, so an event is found by its place. */
function eventAt({ pages }: LogTail, offset: number): IndexedEvent | undefined {
  assert(offset >= 0, `an event ${offset} places after the first`);
  return pages[Math.floor(offset / PAGE_EVENTS)]?.[offset % PAGE_EVENTS];
}
