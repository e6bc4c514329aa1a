import { z } from "zod";
import { AppError } from "../core/errors.ts";
import type { IndexedEvent } from "../core/events.ts";
import type { Epoch } from "../core/lineage.ts";
import { Bell } from "./bell.ts";
import { externalTags, type Json, snakeFields } from "./encode_state.ts";
import { errorResponse, parse } from "./errors.ts";
import type { Gateway } from "./gateway.ts";
import type { RouteContext, RouteOptions, Router } from "./routes.ts";
import { type SseMessage, sseResponse } from "./sse.ts";

/** Most events of one reply. */
export const EVENTS_MAX = 1_000;

/** Events that a stream takes out of the log at once. */
const STREAM_EVENTS = 100;

/** Where the next reply goes on: after the last event of this one. */
const LAST_IDX = "X-EXO-Last-Idx";

/** The oldest event that can be had. */
const OLDEST_IDX = "X-EXO-Oldest-Idx";

const LAST_EVENT_ID = "last-event-id";

const index = z.coerce.number().int().min(0);

/** An id as a stream gives it. */
const EVENT_ID = /^\d{1,15}$/;

const EventsQuery = z.object({
  since: index.optional(),
  limit: z.coerce.number().int().min(1).max(EVENTS_MAX).default(EVENTS_MAX),
});

/** What has happened to the cluster, in pages or as it happens (spec §3). */
export function eventRoutes(router: Router, { gateway, streams }: RouteOptions): void {
  router.get("/events", (c) => {
    const { since, limit } = parse(EventsQuery, c.req.query(), { since: 0, limit: EVENTS_MAX });
    if (!wantsStream(c)) return page(c, gateway, { since: since ?? 0, limit });
    const from = resumedAt(c) ?? since ?? endOf(gateway);
    const { oldestIdx } = gateway.events(from, 1);
    if (from < oldestIdx) return compacted(from, oldestIdx);
    const gone = new AbortController();
    const leave = () => gone.abort();
    const messages = follow(gateway, from, gone.signal);
    return sseResponse(messages, { ...streams, onDisconnect: leave, onStall: leave });
  });
}

function page(
  c: RouteContext,
  gateway: Gateway,
  { since, limit }: { since: number; limit: number },
): Response {
  const { oldestIdx, events } = gateway.events(since, limit);
  if (since < oldestIdx) return compacted(since, oldestIdx);
  const next = events.length > 0 ? since + events.length : Math.min(since, endOf(gateway));
  return c.json(events.map(encodeEvent), 200, { [LAST_IDX]: `${next}` });
}

/** Events that only the snapshot knows: whoever wants to go on begins with the state. */
function compacted(since: number, oldestIdx: number): Response {
  const found = `the log begins at ${oldestIdx}`;
  const message = `Cannot read events from ${since}: ${found}, that or a later one needed`;
  const hint = "read GET /state, then go on after its lastEventAppliedIdx";
  const response = errorResponse(new AppError("compacted", message, { hint, param: "since" }));
  response.headers.set(OLDEST_IDX, `${oldestIdx}`);
  return response;
}

/**
 * Each event from `from` on, as it happens. When the log is not the one any more that it followed,
 * because this node gave way after a partition or the client fell far behind, it says so and ends.
 */
async function* follow(
  gateway: Gateway,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<SseMessage> {
  const changes = new Bell();
  const ring = () => changes.ring();
  const unsubscribe = gateway.onChange(ring);
  signal.addEventListener("abort", ring);
  let last: IndexedEvent | undefined;
  try {
    while (!signal.aborted) {
      const events = eventsAfter(gateway, from, last);
      if (!events) return yield { event: "reset", data: JSON.stringify(resetAt(gateway)) };
      for (const event of events) {
        yield { id: `${event.idx}`, data: JSON.stringify(encodeEvent(event)) };
        last = event;
      }
      if (events.length === 0) await changes.heard();
    }
  } finally {
    unsubscribe();
    signal.removeEventListener("abort", ring);
  }
}

/** The next events of the log that `last` is of; undefined when it is another one by now. */
function eventsAfter(
  gateway: Gateway,
  from: number,
  last: IndexedEvent | undefined,
): readonly IndexedEvent[] | undefined {
  if (!last) {
    const { oldestIdx, events } = gateway.events(from, STREAM_EVENTS);
    return from < oldestIdx || from > endOf(gateway) ? undefined : events;
  }
  // With the last one again, since an index alone does not tell of which history it is.
  const { events: [same, ...news] } = gateway.events(last.idx, STREAM_EVENTS + 1);
  return same?.idx === last.idx && isSameEpoch(same.epoch, last.epoch) ? news : undefined;
}

function isSameEpoch(a: Epoch, b: Epoch): boolean {
  return a.clock === b.clock && a.nodeId === b.nodeId;
}

function resetAt(gateway: Gateway): object {
  return { last_event_applied_idx: gateway.state().lastEventAppliedIdx };
}

/** The index of the event that comes next. */
function endOf(gateway: Gateway): number {
  return gateway.state().lastEventAppliedIdx + 1;
}

function encodeEvent({ event }: IndexedEvent): Json {
  return snakeFields(externalTags(event));
}

function wantsStream(c: RouteContext): boolean {
  return (c.req.header("accept") ?? "").includes("text/event-stream");
}

/** After the event that a client had last, where it says so. */
function resumedAt(c: RouteContext): number | undefined {
  const id = c.req.header(LAST_EVENT_ID);
  if (id === undefined) return undefined;
  if (EVENT_ID.test(id)) return Number(id) + 1;
  const message = `Cannot read the header Last-Event-ID: found "${id.slice(0, 60)}", ` +
    "the id of an event needed";
  throw new AppError("invalid_request", message, {
    hint: "send the id of the last event that came, or leave the header out",
  });
}
