import type { TaskId } from "./ids.ts";

/** A generation as the scheduler sees it. */
export interface BatchRequest {
  readonly taskId: TaskId;
  /** Who asked; those named differently share the engine's time evenly. */
  readonly client: string;
  /** Counts up with each request; kept through a preemption. */
  readonly arrival: number;
  /** Known tokens whose keys and values are not in its cache; 1 while it decodes. */
  readonly pendingTokens: number;
  /** Whether it has a cache: what it shares with earlier requests has been looked up. */
  readonly isStarted: boolean;
  /** Equal for prompts that begin alike, which are computed one after the other. */
  readonly prefixKey: string;
}

/** What the next move is decided on. */
export interface BatchView {
  readonly running: readonly BatchRequest[];
  readonly waiting: readonly BatchRequest[];
  /** Work that each client has had so far; see `FairShare`. */
  readonly served: (client: string) => number;
  /** Whether so many bytes of KV cache are free, or kept for nobody in particular. */
  readonly fits: (bytes: number) => boolean;
  /** Bytes that `tokens` more of a request would take. */
  readonly bytesFor: (request: BatchRequest, tokens: number) => number;
  /** Most requests that run at once. */
  readonly runningMax: number;
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
 * Continuous batching: everyone who decodes is in every step, and prompts fill it up in chunks.
 * First come first served among the requests of a client; among clients, who had least goes first
 * (virtual token counters, arXiv:2401.00588). Source of batching and preemption by recompute:
 * arXiv:2309.06180. Pure, so that the ranks of an instance come to the same moves.
 */
export function nextMove(view: BatchView): BatchMove {
  return admission(view) ?? displacement(view) ?? step(view);
}

/** The next of the queue, if there is a place for it, and memory for all that it is to read. */
function admission(view: BatchView): BatchMove | undefined {
  const { running, runningMax, fits } = view;
  const [next] = inFairOrder(view.waiting, view);
  if (!next || running.length >= runningMax) return undefined;
  const promised = running.reduce((sum, request) => sum + roomFor(request, view), 0);
  // Alone, it fits: that was seen to when it was taken into the queue.
  const isRoom = running.length === 0 || fits(promised + roomFor(next, view));
  return isRoom ? { type: "admit", taskId: next.taskId } : undefined;
}

function roomFor(request: BatchRequest, { bytesFor }: BatchView): number {
  return bytesFor(request, request.pendingTokens + TOKENS_AHEAD);
}

/** All places are taken, and a client has less than its share of them: another gives one back. */
function displacement(view: BatchView): BatchMove | undefined {
  const { running, waiting, runningMax } = view;
  if (running.length < runningMax) return undefined;
  const share = placesOfEach(view);
  const isShort = waiting.some(({ client }) => placesOf(client, running) < share);
  if (!isShort) return undefined;
  const newest = [...running].sort((a, b) => b.arrival - a.arrival)
    .find(({ client }) => placesOf(client, running) > share);
  return newest && { type: "preempt", taskId: newest.taskId };
}

/** Places that each client can have while all have some, but one at least. */
function placesOfEach({ running, waiting, runningMax }: BatchView): number {
  const clients = new Set([...running, ...waiting].map(({ client }) => client));
  return Math.max(1, Math.floor(runningMax / clients.size));
}

function placesOf(client: string, running: readonly BatchRequest[]): number {
  return running.filter((request) => request.client === client).length;
}

/** Those who have less than their share of places, then those who had least work, then by arrival. */
function inFairOrder(requests: readonly BatchRequest[], view: BatchView): BatchRequest[] {
  const share = placesOfEach(view);
  const rank = new Map<string, { isFull: number; served: number }>();
  for (const { client } of requests) {
    if (rank.has(client)) continue;
    const isFull = placesOf(client, view.running) < share ? 0 : 1;
    rank.set(client, { isFull, served: view.served(client) });
  }
  return [...requests].sort((a, b) => {
    const [one, other] = [rank.get(a.client), rank.get(b.client)];
    if (!one || !other || a.client === b.client) return a.arrival - b.arrival;
    return one.isFull - other.isFull || one.served - other.served || a.arrival - b.arrival;
  });
}

/** The rows of the next step, or what must happen before it. */
function step(view: BatchView): BatchMove {
  const { running } = view;
  if (running.length === 0) return { type: "rest" };
  const decoding = running.filter(isDecoding);
  const bytes = decoding.reduce((sum, request) => sum + view.bytesFor(request, 1), 0);
  if (!view.fits(bytes)) return yieldMemory(view);
  const decodeRows = decoding.map(({ taskId }) => ({ taskId, tokens: 1 }));
  const prefill = prefillRows(view, decoding.length > 0, bytes);
  if ("type" in prefill) return prefill;
  const rows = [...decodeRows, ...prefill];
  return rows.length > 0 ? { type: "run", rows } : yieldMemory(view);
}

function isDecoding({ isStarted, pendingTokens }: BatchRequest): boolean {
  return isStarted && pendingTokens === 1;
}

/** Whoever came last gives up its memory; the oldest always gets on. */
function yieldMemory({ running }: BatchView): BatchMove {
  const [newest] = [...running].sort((a, b) => b.arrival - a.arrival);
  if (!newest) return { type: "rest" };
  return { type: running.length > 1 ? "preempt" : "fail", taskId: newest.taskId };
}

/** Chunks of prompts, or who is to start first so that they can be chosen. */
function prefillRows(
  view: BatchView,
  isBesideDecode: boolean,
  decodeBytes: number,
): BatchRows[] | Extract<BatchMove, { type: "start" }> {
  const rows: BatchRows[] = [];
  const begun = new Set<string>();
  let left = isBesideDecode ? view.chunkTokensBesideDecode : view.chunkTokens;
  let bytes = decodeBytes;
  for (const request of inFairOrder(view.running.filter((one) => !isDecoding(one)), view)) {
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
