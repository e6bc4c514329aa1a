import { assert } from "../../core/errors.ts";
import { KV_BLOCK_GONE, KV_BLOCK_POSITIONS } from "../../ffi/mod.ts";
import type { CachePrefix, KvBlock, SequenceCache } from "../decoder.ts";
import { type BlockStore, type PoolBlock, SharedBlock } from "./block_store.ts";

/** What a {@linkcode PagedCache} may be given. */
export interface PagedCacheOptions {
  /** Positions that the next row sees, its own included; all if left out. */
  readonly window?: number | undefined;
  /** What it begins with. */
  readonly prefix?: CachePrefix | undefined;
}

/** A cache in blocks of a pool, taken as positions come and given back as the window moves on. */
export class PagedCache implements SequenceCache {
  readonly #store: BlockStore;
  readonly #window: number;
  /** By their positions; undefined are those that the window has left behind. */
  readonly #blocks: (PoolBlock | undefined)[] = [];
  /** How many the window has left behind. */
  #gone = 0;
  #offset = 0;

  constructor(store: BlockStore, { window = Infinity, prefix }: PagedCacheOptions = {}) {
    this.#store = store;
    this.#window = window;
    if (prefix) this.#resume(prefix);
  }

  get offset(): number {
    return this.#offset;
  }

  get bytes(): number {
    return (this.#blocks.length - this.#gone) * this.#store.blockBytes;
  }

  bytesFor(count: number, stepTokens = count): number {
    if (count === 0) return 0;
    const blocks = this.#needed(count) - this.#blocks.length + (this.#mustCopy ? 1 : 0);
    const most = count > stepTokens ? this.#blocksAtOnce(stepTokens) : Infinity;
    return Math.min(Math.max(0, blocks), most) * this.#store.blockBytes;
  }

  share(index: number): KvBlock | undefined {
    const filled = Math.min(this.#offset - index * KV_BLOCK_POSITIONS, KV_BLOCK_POSITIONS);
    assert(index >= 0 && filled > 0, "a block is shared when it has positions");
    const block = this.#blocks[index];
    return block && new SharedBlock(this.#store, block, { index, filled });
  }

  /** The numbers of the blocks by their positions, as a step names them. */
  get blocks(): readonly number[] {
    return this.#blocks.map((block) => block?.id ?? KV_BLOCK_GONE);
  }

  /** Takes what `count` more positions need. @throws {NativeError} when there is no memory. */
  reserve(count: number): void {
    if (count === 0) return;
    const last = this.#partlyFilled;
    if (last && this.#mustCopy) {
      this.#blocks[this.#blocks.length - 1] = this.#store.take(this, last);
      this.#store.giveBack(last);
    } else if (last) last.writer = this;
    const needed = this.#needed(count);
    while (this.#blocks.length < needed) this.#blocks.push(this.#store.take(this));
  }

  /** Counts positions that were filled. */
  advance(count: number): void {
    this.#offset += count;
    this.#leaveBehind();
  }

  [Symbol.dispose](): void {
    for (const block of this.#blocks) if (block) this.#store.giveBack(block, this);
    this.#blocks.length = this.#gone = this.#offset = 0;
  }

  #resume({ blocks, positions }: CachePrefix): void {
    requireWhole(blocks.length, positions);
    this.#offset = positions;
    const gone = this.#invisible;
    const shares = blocks.map((share, index) => {
      if (index < gone) return undefined;
      assert(
        share instanceof SharedBlock && share.store === this.#store,
        "blocks are its decoder's",
      );
      const needed = Math.min(positions - index * KV_BLOCK_POSITIONS, KV_BLOCK_POSITIONS);
      assert(share.index === index && share.filled >= needed, "blocks come whole and in order");
      return share.block;
    });
    // Only now, so that nothing is held when one of them is refused.
    this.#blocks.push(...shares.map((block) => block && this.#store.share(block)));
    this.#gone = gone;
  }

  /** Blocks that all positions need, `count` more included. */
  #needed(count: number): number {
    return Math.ceil((this.#offset + count) / KV_BLOCK_POSITIONS);
  }

  /** Most blocks in which a step's rows and the positions that its first row sees may lie. */
  #blocksAtOnce(stepTokens: number): number {
    return Math.ceil((this.#window + stepTokens - 2) / KV_BLOCK_POSITIONS) + 1;
  }

  /** The block that the next position goes to, if others are there. */
  get #partlyFilled(): PoolBlock | undefined {
    return this.#offset % KV_BLOCK_POSITIONS === 0
      ? undefined
      : this.#blocks[Math.floor(this.#offset / KV_BLOCK_POSITIONS)];
  }

  /** Whether somebody else may write, or reads, what the next position would overwrite. */
  get #mustCopy(): boolean {
    const block = this.#partlyFilled;
    return block !== undefined && block.writer !== this && block.shares > 1;
  }

  /** Blocks that no later row sees. */
  get #invisible(): number {
    return Math.floor(Math.max(0, this.#offset + 1 - this.#window) / KV_BLOCK_POSITIONS);
  }

  #leaveBehind(): void {
    for (const end = this.#invisible; this.#gone < end; this.#gone++) {
      const block = this.#blocks[this.#gone];
      if (block) this.#store.giveBack(block, this);
      this.#blocks[this.#gone] = undefined;
    }
  }
}

/** A prefix has the blocks that its positions need, and no more. */
function requireWhole(blocks: number, positions: number): void {
  assert(blocks === Math.ceil(positions / KV_BLOCK_POSITIONS), "a prefix has blocks for all of it");
}
