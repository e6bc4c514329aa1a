import { assert, toAppError } from "../../core/errors.ts";
import type { TaskId } from "../../core/ids.ts";
import type {
  KvFingerprint,
  PrefillEnd,
  PrefillRates,
  PrefillRequest,
} from "../../core/prefill.ts";
import { prefersRemote, type RemotePrefillMode } from "../../core/prefill_choice.ts";
import type { Ring } from "../../core/ring.ts";
import type { SequenceCache } from "../decoder.ts";
import type { TaskResponse } from "../engine.ts";
import type { KvMemory } from "../kv_memory.ts";
import type { Run } from "../text/run.ts";
import { BytesUnderWay } from "./bytes_under_way.ts";
import { PrefillInbox } from "./inbox.ts";
import type { KvBytes } from "./kv_bytes.ts";

/** Prompts of an engine that others read at once; further ones it reads itself. */
export const REMOTE_PREFILLS_MAX = 8;

/** Bytes of keys and values that are taken in between two steps: some 20 ms of copying. */
export const TAKEN_BYTES_MAX = 32 * 1024 * 1024;

/** How far the other end of a ring is. */
export interface PrefillFlow {
  readonly bytes: number;
  readonly ring?: Ring | undefined;
  readonly end?: PrefillEnd | undefined;
}

/** What remote prefills work with. */
export interface RemotePrefillParts {
  readonly kv: KvBytes;
  readonly fingerprint: KvFingerprint;
  readonly memory: KvMemory;
  readonly mode: RemotePrefillMode;
  /** How fast this engine reads prompts. */
  readonly tokensPerSecond: () => number | undefined;
  readonly now: () => number;
}

interface Remote {
  readonly run: Run;
  readonly request: PrefillRequest;
  readonly inbox: PrefillInbox;
  readonly begunAt: number;
  isAsked: boolean;
  /** Positions that its client was told of. */
  toldOffset: number;
}

/**
 * Prompts of this engine that another instance reads. What comes is kept as earlier requests' keys
 * and values are, so that each goes on from there by itself, whatever its remote prefill came to.
 */
export class RemotePrefills implements Disposable {
  readonly #parts: RemotePrefillParts;
  readonly #underWay = new BytesUnderWay();
  readonly #remotes = new Map<TaskId, Remote>();

  constructor(parts: RemotePrefillParts) {
    this.#parts = parts;
  }

  /** Requests that wait for bytes, and for nothing that this engine could do. */
  get idleCount(): number {
    return [...this.#remotes.values()].filter((one) => !hasWork(one)).length;
  }

  /** Whether the prompt is read elsewhere: the request is not for the scheduler until that is over. */
  begin(run: Run, rates: PrefillRates): boolean {
    const { memory } = this.#parts;
    if (this.#remotes.size >= REMOTE_PREFILLS_MAX || !run.usesPrefixes || !memory.keepsPrefixes) {
      return false;
    }
    const cache = this.#localPart(run.generation.ids);
    const request = cache && this.#request(run.generation.ids, cache.offset, rates);
    if (!cache || !request) {
      cache?.[Symbol.dispose]();
      return false;
    }
    const { kv } = this.#parts;
    const fits = (blocks: number) => this.#fits(blocks * kv.shape.blockPositions);
    const inbox = new PrefillInbox({ kv, request, cache, underWay: this.#underWay, fits });
    const begun = { begunAt: this.#parts.now(), isAsked: false, toldOffset: cache.offset };
    this.#remotes.set(run.taskId, { run, request, inbox, ...begun });
    return true;
  }

  /** News of the bytes that come for a request; of one that is over: nothing. */
  flow(taskId: TaskId, { bytes, ring, end }: PrefillFlow): void {
    const remote = this.#remotes.get(taskId);
    if (!remote) return;
    try {
      remote.inbox.arrived(bytes, ring, end);
    } catch (cause) {
      // The ring cannot be opened.
      remote.inbox.arrived(0, undefined, { error: toAppError(cause).toInfo() });
    }
  }

  /** Asks, and takes in what has come; `over` gets those that go on here. */
  pump(over: (run: Run) => void): TaskResponse[] {
    return [...this.#remotes.values()].filter(hasWork).flatMap((remote) => {
      const { taskId } = remote.run;
      if (!remote.isAsked) {
        remote.isAsked = true;
        return [[taskId, { type: "prefillWanted", request: remote.request }] as const];
      }
      const end = this.#take(remote);
      const bytes = remote.inbox.takeNews();
      const told = this.#progress(remote);
      if (!end) return bytes === undefined ? told : [...told, flowOf(taskId, bytes)];
      this.#keep(remote);
      over(remote.run);
      return [...told, flowOf(taskId, bytes ?? 0, end)];
    });
  }

  /** Waits for other ranks to take what has come, `ms` at most; false when they have. */
  wait(ms: number): boolean {
    return [...this.#remotes.values()].some(({ inbox }) => inbox.wait(ms));
  }

  /** A request that is over takes its remote prefill along. */
  drop({ taskId }: Run): TaskResponse[] {
    const remote = this.#remotes.get(taskId);
    if (!remote) return [];
    this.#remotes.delete(taskId);
    remote.inbox[Symbol.dispose]();
    return remote.isAsked ? [flowOf(taskId, 0, {})] : [];
  }

  /** Gives all of them up where memory is short; false when there are none. */
  release(): boolean {
    const error = { code: "out_of_memory" as const, message: "The memory is needed for others" };
    for (const { inbox } of this.#remotes.values()) inbox.arrived(0, undefined, { error });
    return this.#remotes.size > 0;
  }

  [Symbol.dispose](): void {
    for (const { inbox } of this.#remotes.values()) inbox[Symbol.dispose]();
    this.#remotes.clear();
  }

  /** A cache with what is here already, up to the end of a block. */
  #localPart(ids: readonly number[]): SequenceCache | undefined {
    const { memory, kv: { shape: { blockPositions } } } = this.#parts;
    const found = memory.begin(ids, true);
    const whole = Math.floor(found.offset / blockPositions) * blockPositions;
    if (whole === found.offset) return found;
    found[Symbol.dispose]();
    const cache = memory.begin(ids.slice(0, whole + 1), true);
    if (cache.offset === whole) return cache;
    cache[Symbol.dispose]();
    return undefined;
  }

  #request(
    ids: readonly number[],
    startPos: number,
    rates: PrefillRates,
  ): PrefillRequest | undefined {
    const { kv, fingerprint, mode, memory, tokensPerSecond } = this.#parts;
    const { blockPositions, layers } = kv.shape;
    const blockBytes = layers.reduce((sum, _, layer) => sum + kv.layerBytes(layer), 0);
    // The last token is always computed here: the answer begins with its logits.
    const stopPos = Math.floor((ids.length - 1) / blockPositions) * blockPositions;
    // It goes on from the prefix cache: what finds no place there would be read twice.
    if (!memory.mayKeep(stopPos)) return undefined;
    const choice = {
      uncachedTokens: ids.length - startPos,
      remoteTokens: Math.max(0, stopPos - startPos),
      // Of all ranks: the engine counts its own.
      kvBytesPerToken: blockBytes / blockPositions,
      localTokensPerSecond: tokensPerSecond(),
      rates,
    };
    if (!prefersRemote(choice, mode) || !this.#fits(stopPos - startPos)) return undefined;
    return { tokenIds: ids.slice(0, stopPos + 1), startPos, stopPos, fingerprint };
  }

  #fits(positions: number): boolean {
    const { memory } = this.#parts;
    const bytes = memory.bytesOf(positions);
    if (!memory.fits(bytes)) return false;
    memory.makeRoom(bytes);
    return true;
  }

  /** How it ended, if it did. */
  #take({ inbox }: Remote): PrefillEnd | undefined {
    try {
      return inbox.pump(TAKEN_BYTES_MAX) ? {} : undefined;
    } catch (cause) {
      return { error: toAppError(cause).toInfo() };
    }
  }

  #progress(remote: Remote): TaskResponse[] {
    const { run: { taskId, generation }, inbox: { cache: { offset } }, toldOffset } = remote;
    if (offset === toldOffset) return [];
    remote.toldOffset = offset;
    const counts = { processedTokens: offset, totalTokens: generation.ids.length };
    return [[taskId, { type: "chunk", chunk: { type: "PrefillProgress", ...counts } }]];
  }

  #keep({ run: { taskId, generation }, inbox, request, begunAt }: Remote): void {
    assert(this.#remotes.delete(taskId), "a remote prefill ends once");
    const { offset } = inbox.cache;
    const { memory, now } = this.#parts;
    if (offset > 0) memory.keep(generation.ids.slice(0, offset), inbox.cache);
    generation.readElsewhere({ from: request.startPos, to: offset, ms: now() - begunAt });
    inbox[Symbol.dispose]();
  }
}

function hasWork({ run, inbox, isAsked }: Remote): boolean {
  return !isAsked || run.isCancelled || inbox.hasWork;
}

function flowOf(taskId: TaskId, bytes: number, end?: PrefillEnd): TaskResponse {
  return [taskId, { type: "prefillFlow", bytes, ...(end ? { end } : {}) }];
}
