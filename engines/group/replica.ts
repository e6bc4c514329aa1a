import { AppError, assert } from "../../core/errors.ts";
import type { Decoder, KvBlock, SequenceCache } from "../decoder.ts";
import type { KvBytes } from "../prefill/kv_bytes.ts";
import type { CacheOperation } from "./cache_operation.ts";

/** A cache of the first rank's, as this one has it. */
export interface ReplicaCache {
  readonly own: SequenceCache;
  /** Whether it holds what it should: a step that fails here, or before here, leaves it behind. */
  isLost: boolean;
  /** Why blocks that were to be written could not be had. */
  lacking?: unknown;
}

/** A share; without a block where that could not be had. */
interface ReplicaShare {
  readonly own: KvBlock | undefined;
  readonly isLost: boolean;
}

/** What the first rank holds, held by this one too: caches and shares of blocks, by their numbers. */
export class Replica implements Disposable {
  readonly #part: Decoder;
  readonly #caches = new Map<number, ReplicaCache>();
  readonly #shares = new Map<number, ReplicaShare>();

  constructor(part: Decoder) {
    this.#part = part;
  }

  /** Caches and shares that are held. */
  get size(): number {
    return this.#caches.size + this.#shares.size;
  }

  /** @throws {AppError} `group_broken` for a number that nothing has. */
  cache(number: number): ReplicaCache {
    return found(this.#caches, number, "cache");
  }

  /** Does what the first rank did. What there is no memory for is lost, which its steps will say. */
  apply(operation: CacheOperation): void {
    switch (operation.type) {
      case "make":
        this.#caches.set(operation.cache, this.#make(operation.prefix));
        return;
      case "free":
        this.cache(operation.cache).own[Symbol.dispose]();
        this.#caches.delete(operation.cache);
        return;
      case "share":
        this.#shares.set(operation.share, this.#share(operation));
        return;
      case "giveBack":
        found(this.#shares, operation.share, "share").own?.[Symbol.dispose]();
        this.#shares.delete(operation.share);
        return;
      case "reserve":
        this.#reserve(this.cache(operation.cache), operation.count);
        return;
      case "advance":
        this.#kv.advance(this.cache(operation.cache).own, operation.count);
        return;
      default:
        return operation satisfies never;
    }
  }

  #make(prefix: Extract<CacheOperation, { type: "make" }>["prefix"]): ReplicaCache {
    if (!prefix) return { own: this.#part.makeCache(), isLost: false };
    const { positions } = prefix;
    const shares = prefix.shares.map((share) =>
      share === null ? undefined : found(this.#shares, share, "share")
    );
    const isWhole = shares.every((share) => !share?.isLost);
    const blocks = shares.map((share) => share?.own);
    const own = isWhole
      ? this.#possibly(() => this.#part.makeCache({ blocks, positions }))
      : undefined;
    return own ? { own, isLost: false } : { own: this.#part.makeCache(), isLost: true };
  }

  #share({ cache, index }: Extract<CacheOperation, { type: "share" }>): ReplicaShare {
    const { own, isLost } = this.cache(cache);
    if (isLost) return { own: undefined, isLost };
    const share = this.#possibly(() => own.share(index));
    return { own: share, isLost: share === undefined };
  }

  /** The first rank hears of it when it writes, and goes no further with this cache. */
  #reserve(cache: ReplicaCache, count: number): void {
    try {
      this.#kv.reserve(cache.own, count);
    } catch (error) {
      cache.lacking = error;
    }
  }

  get #kv(): KvBytes {
    const { kvBytes } = this.#part;
    assert(kvBytes, "the ranks of a group keep keys and values alike");
    return kvBytes;
  }

  /** The block of a share; undefined where it was lost. @throws {AppError} `group_broken`. */
  block(number: number): KvBlock | undefined {
    return found(this.#shares, number, "share").own;
  }

  /** What costs memory where blocks are copied. */
  #possibly<T>(make: () => T): T | undefined {
    try {
      return make();
    } catch {
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    for (const { own } of this.#caches.values()) own[Symbol.dispose]();
    for (const { own } of this.#shares.values()) own?.[Symbol.dispose]();
    this.#caches.clear();
    this.#shares.clear();
  }
}

function found<T>(held: ReadonlyMap<number, T>, number: number, what: string): T {
  const one = held.get(number);
  if (one) return one;
  throw new AppError(
    "group_broken",
    `Cannot follow the first rank: it names ${what} ${number}, which this rank does not hold`,
    { hint: "run the same version of exo on all nodes" },
  );
}
