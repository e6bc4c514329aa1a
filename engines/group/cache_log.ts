import { assert } from "../../core/errors.ts";
import type { CachePrefix, KvBlock, SequenceCache } from "../decoder.ts";
import { type CacheOperation, OPS_MAX } from "./cache_operation.ts";

/** What the first rank did to its caches and the others have yet to do, in order. */
export class CacheLog {
  readonly #onFull: () => void;
  #operations: CacheOperation[] = [];
  #numbers = 0;

  /** `onFull` is to take what is there: it is as much as a frame holds. */
  constructor(onFull: () => void) {
    this.#onFull = onFull;
  }

  get isEmpty(): boolean {
    return this.#operations.length === 0;
  }

  /** A number that no cache or share has had. */
  next(): number {
    return this.#numbers++;
  }

  add(operation: CacheOperation): void {
    this.#operations.push(operation);
    if (this.#operations.length >= OPS_MAX) this.#onFull();
  }

  /** All that was added since. */
  take(): CacheOperation[] {
    const operations = this.#operations;
    this.#operations = [];
    return operations;
  }
}

/** A share of a block on this rank, and of the block of the same positions on each other. */
export class GroupBlock implements KvBlock {
  readonly own: KvBlock;
  readonly #log: CacheLog;
  readonly number: number;
  #isDisposed = false;

  constructor(own: KvBlock, log: CacheLog, number: number) {
    this.own = own;
    this.#log = log;
    this.number = number;
  }

  get ownBytes(): number {
    return this.own.ownBytes;
  }

  get resumes(): NonNullable<KvBlock["resumes"]> {
    return this.own.resumes ?? "anywhere";
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.own[Symbol.dispose]();
    this.#log.add({ type: "giveBack", share: this.number });
  }
}

/** A cache on this rank, and one on each other that fills as it does. */
export class GroupCache implements SequenceCache {
  readonly own: SequenceCache;
  readonly #log: CacheLog;
  /** What the others know it by; undefined while they need not have it. */
  #number: number | undefined;

  constructor(own: SequenceCache, log: CacheLog, prefix?: CachePrefix) {
    this.own = own;
    this.#log = log;
    if (prefix && prefix.positions > 0) this.#make(prefix);
  }

  /** What the others know it by, from now on. */
  get number(): number {
    return this.#number ?? this.#make();
  }

  /** Whether the others know it by this number. */
  isKnownAs(number: number): boolean {
    return this.#number === number;
  }

  #make(prefix?: CachePrefix): number {
    const number = this.#number = this.#log.next();
    const shares = prefix?.blocks.map((block) => block ? groupBlock(block).number : null);
    this.#log.add({
      ...{ type: "make", cache: number },
      ...(prefix && shares ? { prefix: { shares, positions: prefix.positions } } : {}),
    });
    return number;
  }

  get offset(): number {
    return this.own.offset;
  }

  get bytes(): number {
    return this.own.bytes;
  }

  bytesFor(count: number, stepTokens?: number): number {
    return this.own.bytesFor(count, stepTokens);
  }

  share(index: number): KvBlock | undefined {
    const own = this.own.share(index);
    if (!own) return undefined;
    const share = this.#log.next();
    this.#log.add({ type: "share", share, cache: this.number, index });
    return new GroupBlock(own, this.#log, share);
  }

  [Symbol.dispose](): void {
    this.own[Symbol.dispose]();
    if (this.#number !== undefined) this.#log.add({ type: "free", cache: this.#number });
    this.#number = undefined;
  }
}

/** A block as a group has it. */
export function groupBlock(block: KvBlock): GroupBlock {
  assert(block instanceof GroupBlock, "blocks are its decoder's");
  return block;
}

/** A cache as a group has it. */
export function groupCache(cache: SequenceCache): GroupCache {
  assert(cache instanceof GroupCache, "a sequence's cache comes from the decoder that runs it");
  return cache;
}
