import { type Standing, tenantOf } from "./fair_share.ts";
import type { TaskId } from "./ids.ts";

/** A generation as the scheduler sees it. */
export interface BatchRequest {
  readonly taskId: TaskId;
  /** Who asked; tenants share the engine's time evenly, and the users of a tenant its share. */
  readonly client: string;
  /** Counts up with each request; kept through a preemption. */
  readonly arrival: number;
  /**
   * Known tokens whose keys and values are not in its cache, or in no step under way; 1 while it
   * decodes, 0 while its next token is drawn.
   */
  readonly pendingTokens: number;
  /** Whether it has a cache: what it shares with earlier requests has been looked up. */
  readonly isStarted: boolean;
  /** Number of the last step that it was in; they count up. */
  readonly lastStep: number;
  /** Equal for prompts that begin alike, which are computed one after the other. */
  readonly prefixKey: string;
}

/** What the next move is decided on. */
export interface BatchView {
  readonly running: readonly BatchRequest[];
  readonly waiting: readonly BatchRequest[];
  /** Where each client stands; see `FairShare`. */
  readonly standing: (client: string) => Standing;
  /** Whether so many bytes of KV cache are free, or kept for nobody in particular. */
  readonly fits: (bytes: number) => boolean;
  /** Bytes that `tokens` more of a request would take. */
  readonly bytesFor: (request: BatchRequest, tokens: number) => number;
  /** Bytes that it holds, which others can have when it is preempted. */
  readonly bytesHeld: (request: BatchRequest) => number;
  /** Most requests that run at once. */
  readonly runningMax: number;
  /** Steps that are to be under way at a time: those who decode are spread over them. */
  readonly stepsAtOnce: number;
  /** Most prompt tokens of a step in which nobody decodes. */
  readonly chunkTokens: number;
  /** Most prompt tokens of a step in which others wait for their next token. */
  readonly chunkTokensBesideDecode: number;
}

/** Tokens of one request in a step. */
export interface BatchRows {
  readonly taskId: TaskId;
  readonly tokens: number;
}

/** What an engine does next; it asks again until the move is `run` or `rest`. */
export type BatchMove =
  /** From the queue into a place. */
  | { readonly type: "admit"; readonly taskId: TaskId }
  /** Gives it its cache, with what is known of its prompt. */
  | { readonly type: "start"; readonly taskId: TaskId }
  /** Back into the queue; its tokens stay, its cache goes, and is computed again. */
  | { readonly type: "preempt"; readonly taskId: TaskId }
  /** It is alone, and there is no memory for its next token. */
  | { readonly type: "fail"; readonly taskId: TaskId }
  | { readonly type: "run"; readonly rows: readonly BatchRows[] }
  | { readonly type: "rest" };

/**
 * Tokens for which each request that runs must have room when another is admitted: without it, one
 * that decodes would drive out the newest a moment later.
 */
export const TOKENS_AHEAD = 64;

/**
 * Requests of others that are admitted before one's own although it waits: whoever was passed so
 * often goes first. Without it, the first request of ever-new clients, who had no work yet, would
 * pass that of an old one for ever. As many as can wait, so that it changes nothing otherwise.
 */
export const PASSED_MAX = 256;

/**
 * Continuous batching: everyone who decodes is in every step, and prompts fill it up in chunks.
 * First come first served among the requests of a client; among clients, who had least goes first
 * (virtual token counters, arXiv:2401.00588), or who was passed too often. Source of batching and
 * preemption by recompute: arXiv:2309.06180. Pure, so that the ranks of an instance come to the same
 * moves.
 */
export function nextMove(view: BatchView): BatchMove {
  return admission(view) ?? displacement(view) ?? step(view);
}

/** The next of the queue, if there is a place for it, and memory for all that it is to read. */
function admission(view: BatchView): BatchMove | undefined {
  const { running, runningMax, fits } = view;
  if (running.length >= runningMax) return undefined;
  const next = nextInQueue(view);
  if (!next) return undefined;
  const promised = promisedTo(running, view);
  // Alone, it fits: that was seen to when it was taken into the queue.
  const isRoom = running.length === 0 || fits(promised + roomFor(next, view));
  return isRoom ? { type: "admit", taskId: next.taskId } : undefined;
}

function nextInQueue(view: BatchView): BatchRequest | undefined {
  // Of each client only the first can be it: the queue is long, and they are few.
  const firsts = new Map<string, BatchRequest>();
  for (const request of view.waiting) {
    const first = firsts.get(request.client);
    if (!first || request.arrival < first.arrival) firsts.set(request.client, request);
  }
  return inFairOrder([...firsts.values()], { view, overdue: passedBy(view) })[0];
}

function promisedTo(requests: readonly BatchRequest[], view: BatchView): number {
  return requests.reduce((sum, request) => sum + roomFor(request, view), 0);
}

function roomFor(request: BatchRequest, { bytesFor }: BatchView): number {
  return bytesFor(request, request.pendingTokens + TOKENS_AHEAD);
}

/**
 * All places are taken, and the next has less than its share of them: one who has more gives one
 * back, if there is memory for the next then.
 */
function displacement(view: BatchView): BatchMove | undefined {
  const { running, runningMax } = view;
  if (running.length < runningMax) return undefined;
  const next = nextInQueue(view);
  if (!next) return undefined;
  const places = placesIn(view);
  const takes = (one: BatchRequest) => {
    const isSameTenant = tenantOf(one.client) === tenantOf(next.client);
    const level = isSameTenant ? "user" : "tenant";
    const [has, wants] = [places(one.client)[level], places(next.client)[level]];
    return wants.taken < wants.share && has.taken > has.share;
  };
  const fitsAfter = (one: BatchRequest) => {
    const promised = promisedTo(running.filter((other) => other !== one), view);
    return view.fits(promised + roomFor(next, view) - view.bytesHeld(one));
  };
  const newest = [...running].sort((a, b) => b.arrival - a.arrival)
    .find((one) => takes(one) && fitsAfter(one));
  return newest && { type: "preempt", taskId: newest.taskId };
}

/** Places that one has, and those that it can have while all have some, but one at least. */
interface Places {
  readonly taken: number;
  readonly share: number;
}

/** The places of each client's tenant, and of itself within them. */
function placesIn(
  { running, waiting, runningMax }: BatchView,
): (client: string) => { tenant: Places; user: Places } {
  const clients = new Set([...running, ...waiting].map(({ client }) => client));
  const tenants = new Set([...clients].map(tenantOf));
  const users = countBy(clients, tenantOf);
  const takenByUser = countBy(running, ({ client }) => client);
  const takenByTenant = countBy(running, ({ client }) => tenantOf(client));
  const share = Math.max(1, Math.floor(runningMax / tenants.size));
  return (client) => {
    const tenant = tenantOf(client);
    const shareOfUser = Math.max(1, Math.floor(share / users(tenant)));
    return {
      tenant: { taken: takenByTenant(tenant), share },
      user: { taken: takenByUser(client), share: shareOfUser },
    };
  };
}

/** How many of `all` have a key. */
function countBy<T>(all: Iterable<T>, keyOf: (one: T) => string): (key: string) => number {
  const counts = new Map<string, number>();
  const countOf = (key: string) => counts.get(key) ?? 0;
  for (const one of all) counts.set(keyOf(one), countOf(keyOf(one)) + 1);
  return countOf;
}

/** How overdue a request is, at the level of its tenant and of its user; 0: it is not. */
type Overdue = (request: BatchRequest) => { readonly tenant: number; readonly user: number };

/** In the queue: those whose requests were passed too often. */
function passedBy(view: BatchView): Overdue {
  const beyond = (passed: number) => passed < PASSED_MAX ? 0 : passed;
  return ({ client }) => {
    const { tenant, user } = view.standing(client);
    return { tenant: beyond(tenant.passed), user: beyond(user.passed) };
  };
}

/**
 * By tenant, then by client, then by arrival. Of two tenants, and of two clients of one: the more
 * overdue, then the one that has less than its share of places, then the one that had less work,
 * then the one whose request came first.
 */
function inFairOrder(
  requests: readonly BatchRequest[],
  { view, overdue }: { view: BatchView; overdue: Overdue },
): BatchRequest[] {
  if (requests.length < 2) return [...requests];
  const places = placesIn(view);
  const ranks = { tenant: new Map<string, Rank>(), user: new Map<string, Rank>() };
  /** That of the first request of its tenant, or of its user. */
  const rankOf = (request: BatchRequest, level: "tenant" | "user"): Rank => {
    const { client, arrival } = request;
    const name = level === "tenant" ? tenantOf(client) : client;
    const known = ranks[level].get(name);
    if (known) return known;
    const { taken, share } = places(client)[level];
    const { served } = view.standing(client)[level];
    const isFull = taken < share ? 0 : 1;
    const rank = { overdue: overdue(request)[level], isFull, served, arrival };
    ranks[level].set(name, rank);
    return rank;
  };
  return [...requests].sort((a, b) => a.arrival - b.arrival)
    .map((request) => ({
      request,
      tenant: rankOf(request, "tenant"),
      user: rankOf(request, "user"),
    }))
    // The requests of a user have one rank, and keep the order of arrival.
    .sort((a, b) => compare(a.tenant, b.tenant) || compare(a.user, b.user))
    .map(({ request }) => request);
}

/** What decides which of two tenants, or of two users of one, goes first. */
interface Rank {
  readonly overdue: number;
  /** 1 for who has its share of places, 0 for who has less. */
  readonly isFull: number;
  readonly served: number;
  readonly arrival: number;
}

function compare(a: Rank, b: Rank): number {
  return b.overdue - a.overdue || a.isFull - b.isFull || a.served - b.served ||
    a.arrival - b.arrival;
}

/** The rows of the next step, or what must happen before it. */
function step(view: BatchView): BatchMove {
  const { running } = view;
  if (running.every(isDrawing)) return { type: "rest" };
  const decoding = nextDecoding(view);
  const bytes = decoding.reduce((sum, request) => sum + view.bytesFor(request, 1), 0);
  if (!view.fits(bytes)) return yieldMemory(view);
  const decodeRows = decoding.map(({ taskId }) => ({ taskId, tokens: 1 }));
  const prefill = prefillRows(view, bytes);
  if ("type" in prefill) return prefill;
  const rows = [...decodeRows, ...prefill];
  return rows.length > 0 ? { type: "run", rows } : yieldMemory(view);
}

function isDecoding({ isStarted, pendingTokens }: BatchRequest): boolean {
  return isStarted && pendingTokens === 1;
}

/** Whether its next token is drawn by a step under way: until then there is nothing to run. */
function isDrawing({ isStarted, pendingTokens }: BatchRequest): boolean {
  return isStarted && pendingTokens === 0;
}

/**
 * Those of the decoding that are in the next step: all, or, where several steps are under way at a
 * time, no more than an even share, so that each rank of a pipeline always has one to do.
 */
function nextDecoding({ running, stepsAtOnce }: BatchView): BatchRequest[] {
  const ready = running.filter(isDecoding);
  const all = ready.length + running.filter(isDrawing).length;
  const share = Math.ceil(all / stepsAtOnce);
  if (ready.length <= share) return ready;
  return ready.sort((a, b) => a.lastStep - b.lastStep).slice(0, share);
}

/** Whoever came last gives up its memory; the oldest always gets on. */
function yieldMemory({ running }: BatchView): BatchMove {
  const newest = running.reduce((one, other) => other.arrival > one.arrival ? other : one);
  return { type: running.length > 1 ? "preempt" : "fail", taskId: newest.taskId };
}

/** Chunks of prompts, or who is to start first so that they can be chosen. */
function prefillRows(
  view: BatchView,
  decodeBytes: number,
): BatchRows[] | Extract<BatchMove, { type: "start" }> {
  const rows: BatchRows[] = [];
  const begun = new Set<string>();
  const isBesideDecode = view.running.some((one) => isDecoding(one) || isDrawing(one));
  let left = isBesideDecode ? view.chunkTokensBesideDecode : view.chunkTokens;
  let bytes = decodeBytes;
  const reading = view.running.filter((one) => !isDecoding(one) && !isDrawing(one));
  for (const request of inFairOrder(reading, { view, overdue: agedAmong(reading) })) {
    if (left <= 0) break;
    // What the one before it computes now, it will find in the prefix cache.
    if (!request.isStarted && begun.has(request.prefixKey)) continue;
    if (!request.isStarted) return { type: "start", taskId: request.taskId };
    const tokens = fitting(Math.min(left, request.pendingTokens), request, view, bytes);
    begun.add(request.prefixKey);
    if (tokens === 0) continue;
    rows.push({ taskId: request.taskId, tokens });
    bytes += view.bytesFor(request, tokens);
    left -= tokens;
  }
  return rows;
}

/** Among prompts that are read: those that came long before others, who could pass them for ever. */
function agedAmong(requests: readonly BatchRequest[]): Overdue {
  const newest = Math.max(...requests.map(({ arrival }) => arrival));
  return ({ arrival }) => {
    const age = newest - arrival < PASSED_MAX ? 0 : newest - arrival;
    return { tenant: age, user: age };
  };
}

/** As many of `tokens` as there is memory for beside `bytes`, to within a factor of two. */
function fitting(
  tokens: number,
  request: BatchRequest,
  { bytesFor, fits }: BatchView,
  bytes: number,
): number {
  let count = tokens;
  while (count > 0 && !fits(bytes + bytesFor(request, count))) count = Math.floor(count / 2);
  return count;
}
