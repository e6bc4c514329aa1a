import { KV_BLOCK_POSITIONS, type KvPool } from "../../ffi/mod.ts";
import type { SequenceCache } from "../decoder.ts";

/** A cache in blocks of a pool, taken as positions come. */
export class PagedCache implements SequenceCache {
  readonly #pool: KvPool;
  readonly #blocks: number[] = [];
  #offset = 0;

  constructor(pool: KvPool) {
    this.#pool = pool;
  }

  get offset(): number {
    return this.#offset;
  }

  get bytes(): number {
    return this.#blocks.length * this.#pool.blockBytes;
  }

  /** The blocks by their positions. */
  get blocks(): readonly number[] {
    return this.#blocks;
  }

  /** Takes what `count` more positions need. @throws {NativeError} when there is no memory. */
  reserve(count: number): void {
    const needed = Math.ceil((this.#offset + count) / KV_BLOCK_POSITIONS);
    while (this.#blocks.length < needed) this.#blocks.push(this.#pool.take());
  }

  /** Counts positions that were filled. */
  advance(count: number): void {
    this.#offset += count;
  }

  [Symbol.dispose](): void {
    for (const block of this.#blocks) this.#pool.giveBack(block);
    this.#blocks.length = 0;
    this.#offset = 0;
  }
}
