import { assert } from "../../core/errors.ts";
import type { KvPool } from "../../ffi/mod.ts";
import type { KvBlock } from "../decoder.ts";

/** A block of a pool, which has a holder for each share of it. */
export interface PoolBlock {
  /** Its number in the pool. */
  readonly id: number;
  shares: number;
  /**
   * Who alone may write behind the positions that others share: who took it. Undefined once that
   * one has given its share back.
   */
  writer: object | undefined;
}

/** What gives out blocks by their numbers. */
export type BlockPool = Pick<KvPool, "blockBytes" | "take" | "copy" | "giveBack"> & Disposable;

/** The blocks of a pool by their shares. The last one of a block gives its memory back. */
export class BlockStore implements Disposable {
  readonly #pool: BlockPool;
  #held = 0;
  #isDisposed = false;

  constructor(pool: BlockPool) {
    this.#pool = pool;
  }

  /** Bytes of one block. */
  get blockBytes(): number {
    return this.#pool.blockBytes;
  }

  /** Bytes of all blocks that anyone holds. */
  get bytes(): number {
    return this.#held * this.#pool.blockBytes;
  }

  /** A new block for `writer`, or a copy of `source`. @throws {NativeError} without memory. */
  take(writer: object, source?: PoolBlock): PoolBlock {
    const id = source ? this.#pool.copy(source.id) : this.#pool.take();
    this.#held++;
    return { id, shares: 1, writer };
  }

  /** Takes a share. */
  share(block: PoolBlock): PoolBlock {
    assert(block.shares > 0, "a KV block is shared before its last share is given back");
    block.shares++;
    return block;
  }

  /** Gives the share of `holder` back. */
  giveBack(block: PoolBlock, holder?: object): void {
    if (block.writer === holder) block.writer = undefined;
    if (--block.shares > 0 || this.#isDisposed) return;
    this.#held--;
    this.#pool.giveBack(block.id);
  }

  /** Frees the pool; shares that are left hold nothing then. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#held = 0;
    this.#pool[Symbol.dispose]();
  }
}

/** A share of the positions of a block that were filled when it was taken. */
export class SharedBlock implements KvBlock {
  readonly store: BlockStore;
  readonly index: number;
  readonly filled: number;
  #block: PoolBlock | undefined;

  /** Block number `index` of a sequence; its first `filled` positions. */
  constructor(store: BlockStore, block: PoolBlock, place: { index: number; filled: number }) {
    this.store = store;
    this.index = place.index;
    this.filled = place.filled;
    this.#block = store.share(block);
  }

  /** What it shares. */
  get block(): PoolBlock {
    assert(this.#block, "a share of a KV block is used before it is disposed");
    return this.#block;
  }

  get ownBytes(): number {
    return this.#block?.shares === 1 ? this.store.blockBytes : 0;
  }

  [Symbol.dispose](): void {
    if (this.#block) this.store.giveBack(this.#block);
    this.#block = undefined;
  }
}
