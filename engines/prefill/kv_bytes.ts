import { assert } from "../../core/errors.ts";
import type { KvFingerprint } from "../../core/prefill.ts";
import {
  KV_BLOCK_LAYOUT,
  KV_BLOCK_POSITIONS,
  type KvDtype,
  type KvLayer,
  kvLayerBytes,
  type KvPool,
  readKvBlocks,
  writeKvBlocks,
} from "../../ffi/mod.ts";
import { SharedBlock } from "../cpu/block_store.ts";
import { PagedCache } from "../cpu/paged_cache.ts";
import type { KvBlock, SequenceCache } from "../decoder.ts";

/** What keys and values are, but for the weights that they were computed with. */
export type KvShape = Omit<KvFingerprint, "weights">;

/** Bytes on their way: where other ranks have a part of them, that takes a while. */
export interface PendingBytes<T> extends Disposable {
  /** Waits until it is over, `ms` at most; whether it is. @throws {AppError} `group_broken`. */
  wait(ms: number): boolean;
  /** What came of it; once, when it is over. @throws {AppError} why nothing did. */
  collect(): T;
  /** Nobody will collect it. */
  [Symbol.dispose](): void;
}

/** What was done as it was asked for. */
export function doneBytes<T>(value: T): PendingBytes<T> {
  return { wait: () => true, collect: () => value, [Symbol.dispose]: () => {} };
}

/** Keys and values of a decoder as bytes, by whole blocks of one layer each. */
export interface KvBytes {
  readonly shape: KvShape;
  /** Bytes of a block's part for one layer. */
  layerBytes(layer: number): number;
  /** The parts of whole blocks for one layer, one after the other. */
  read(layer: number, blocks: readonly KvBlock[]): PendingBytes<Uint8Array<ArrayBuffer>>;
  /**
   * Takes `count` blocks for a sequence that ends with a whole one, to be written layer by layer.
   * @throws {NativeError} without memory.
   */
  reserve(cache: SequenceCache, count: number): void;
  /** Fills the parts of the first of the reserved blocks for one layer. */
  write(layer: number, cache: SequenceCache, data: Uint8Array<ArrayBuffer>): PendingBytes<void>;
  /** The reserved blocks are the sequence's: all their layers were written. */
  advance(cache: SequenceCache, count: number): void;
}

/** The keys and values of a `CpuDecoder`. */
export class PoolKvBytes implements KvBytes {
  readonly shape: KvShape;
  readonly #pool: KvPool;

  constructor(pool: KvPool, layers: readonly KvLayer[], kvType: KvDtype) {
    this.#pool = pool;
    this.shape = {
      layout: KV_BLOCK_LAYOUT,
      kvType,
      blockPositions: KV_BLOCK_POSITIONS,
      layers: layers.map(({ kvHeads, keyDim, valueDim }) => ({ kvHeads, keyDim, valueDim })),
    };
  }

  layerBytes(layer: number): number {
    return kvLayerBytes(this.#pool, layer);
  }

  read(layer: number, blocks: readonly KvBlock[]): PendingBytes<Uint8Array<ArrayBuffer>> {
    const ids = blocks.map((block) => {
      assert(block instanceof SharedBlock, "blocks are their decoder's");
      return block.block.id;
    });
    const bytes = new Uint8Array(ids.length * this.layerBytes(layer));
    readKvBlocks(this.#pool, layer, ids, bytes);
    return doneBytes(bytes);
  }

  reserve(cache: SequenceCache, count: number): void {
    const paged = whole(cache);
    paged.reserve(count * KV_BLOCK_POSITIONS);
  }

  write(layer: number, cache: SequenceCache, data: Uint8Array<ArrayBuffer>): PendingBytes<void> {
    const first = whole(cache).offset / KV_BLOCK_POSITIONS;
    const count = data.length / kvLayerBytes(this.#pool, layer);
    const ids = whole(cache).blocks.slice(first, first + count);
    writeKvBlocks(this.#pool, layer, ids, data);
    return doneBytes(undefined);
  }

  advance(cache: SequenceCache, count: number): void {
    whole(cache).advance(count * KV_BLOCK_POSITIONS);
  }
}

function whole(cache: SequenceCache): PagedCache {
  assert(
    cache instanceof PagedCache,
    "a sequence's cache comes from the decoder whose bytes go in",
  );
  assert(cache.offset % KV_BLOCK_POSITIONS === 0, "blocks are put after whole ones");
  return cache;
}
