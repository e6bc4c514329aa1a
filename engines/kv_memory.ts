import type { Decoder, SequenceCache } from "./decoder.ts";
import { PrefixCache } from "./text/prefix_cache.ts";

/** What a {@linkcode KvMemory} may take. */
export interface KvMemoryOptions {
  readonly decoder: Decoder;
  /** Most bytes of keys and values, those of the prefix cache included. */
  readonly kvBudgetBytes: number;
  /** Most of them for requests to come; 0: none are kept. Absent: what nobody else needs. */
  readonly prefixCacheBytes?: number;
  /** Most tokens of a sequence in one step; absent: a block's. */
  readonly prefillChunkTokens?: number;
  /**
   * Bytes that may be taken from the system now, below 0 as many as it is short of; absent: there is
   * no need to look.
   */
  readonly spareBytes?: () => number;
}

/** The keys and values of an engine: a budget, shared by requests and the prefix cache. */
export class KvMemory implements Disposable {
  readonly #options: KvMemoryOptions;
  readonly #prefixes: PrefixCache;
  /** Tells what sequences take; it never holds anything. */
  readonly #empty: SequenceCache;

  constructor(options: KvMemoryOptions) {
    this.#options = options;
    this.#prefixes = new PrefixCache(options.decoder.blockPositions);
    this.#empty = options.decoder.makeCache();
  }

  /** Most that may be held now: the budget, or what the system has left. */
  get budgetBytes(): number {
    const { decoder, kvBudgetBytes, spareBytes } = this.#options;
    if (!spareBytes) return kvBudgetBytes;
    return Math.max(0, Math.min(kvBudgetBytes, decoder.cacheBytes + spareBytes()));
  }

  /** Positions of a block. */
  get blockPositions(): number {
    return this.#options.decoder.blockPositions;
  }

  /** Whether anything is kept for requests to come. */
  get keepsPrefixes(): boolean {
    return this.#options.prefixCacheBytes !== 0;
  }

  /** Whether so many positions of one prompt may be kept, if all others go. */
  mayKeep(positions: number): boolean {
    const { decoder, prefixCacheBytes = Infinity } = this.#options;
    const blocks = Math.ceil(positions / decoder.blockPositions);
    return blocks * this.bytesOf(decoder.blockPositions) <= prefixCacheBytes;
  }

  /** Bytes that are kept for requests to come, and that no request has now. */
  get prefixBytes(): number {
    return this.#prefixes.ownBytes;
  }

  /** Whether so much more can be held, if all goes that is kept for requests to come. */
  fits(bytes: number): boolean {
    const free = this.budgetBytes - this.#options.decoder.cacheBytes;
    return bytes <= free || bytes <= free + this.#prefixes.ownBytes;
  }

  /** Most bytes that a sequence which shares nothing holds until it has `tokens`. */
  bytesOf(tokens: number): number {
    const { decoder, prefillChunkTokens = decoder.blockPositions } = this.#options;
    return this.#empty.bytesFor(tokens, prefillChunkTokens);
  }

  /** Most tokens, of `tokensMax`, that one sequence has room for, if its steps are a block's. */
  tokensOfOne(tokensMax: number): number {
    const { decoder, kvBudgetBytes } = this.#options;
    let [fits, fitsNot] = [0, tokensMax + 1];
    while (fitsNot - fits > 1) {
      const tokens = Math.floor((fits + fitsNot) / 2);
      if (this.#empty.bytesFor(tokens, decoder.blockPositions) <= kvBudgetBytes) fits = tokens;
      else fitsNot = tokens;
    }
    return fits;
  }

  /** A cache for these tokens; the last of them is always left to be computed. */
  begin(ids: readonly number[], usesPrefixes: boolean): SequenceCache {
    const { decoder } = this.#options;
    if (!usesPrefixes) return decoder.makeCache();
    let hit = this.#prefixes.lookup(ids, ids.length - 1);
    if (decoder.copiesBlocks && hit.positions > 0) {
      this.makeRoom(this.bytesOf(hit.positions));
      // Some of it may have been let go; what does not fit twice is computed.
      hit = this.#prefixes.lookup(ids, ids.length - 1);
      if (!this.#isFree(this.bytesOf(hit.positions))) return decoder.makeCache();
    }
    return hit.positions > 0 ? decoder.makeCache(hit) : decoder.makeCache();
  }

  /** Keeps what a sequence has computed of these tokens for requests to come, if there is room. */
  keep(ids: readonly number[], cache: SequenceCache): void {
    const { decoder, prefixCacheBytes = Infinity } = this.#options;
    if (!this.keepsPrefixes) return;
    if (decoder.copiesBlocks) {
      this.makeRoom(this.bytesOf(ids.length));
      if (!this.#isFree(this.bytesOf(ids.length))) return;
    }
    try {
      this.#prefixes.insert(ids, (index) => cache.share(index));
    } catch {
      // Without memory for a copy. Nobody waits for it, and what is kept already can go.
      this.clear();
    }
    const blockBytes = this.bytesOf(decoder.blockPositions);
    while (this.#prefixes.size * blockBytes > prefixCacheBytes && this.#prefixes.evict());
  }

  /** Lets go of what is kept until `bytes` more are within the budget. */
  makeRoom(bytes: number): void {
    const { decoder } = this.#options;
    // Once: what the system has left is known as of a moment ago, and would not grow meanwhile.
    const budgetBytes = this.budgetBytes;
    while (decoder.cacheBytes + bytes > budgetBytes && this.#prefixes.evict());
  }

  /** Lets go of all that is kept; false when there was nothing. */
  clear(): boolean {
    const isKept = this.#prefixes.size > 0;
    this.#prefixes.clear();
    return isKept;
  }

  #isFree(bytes: number): boolean {
    return this.#options.decoder.cacheBytes + bytes <= this.budgetBytes;
  }

  [Symbol.dispose](): void {
    this.clear();
    this.#empty[Symbol.dispose]();
  }
}
