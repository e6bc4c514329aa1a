/** The memory of paged KV caches, for the CPU engine. */
import { check, native } from "./bind.ts";

/** Positions of a block, in every layer. */
export const KV_BLOCK_POSITIONS = 32;

/** Stands for a block that was given back, since no row sees its positions any more. */
export const KV_BLOCK_GONE = -1;

/** What one layer caches for a position. */
export interface KvLayer {
  readonly kvHeads: number;
  readonly keyDim: number;
  /** A multiple of 16. */
  readonly valueDim: number;
  readonly dtype?: "float32" | "float16";
}

/** Blocks by number; whoever takes one gives it back. Their bytes count as active memory. */
export class KvPool implements Disposable {
  /** Its number in the shim. */
  readonly id: number;
  /** Bytes of a block over all layers. */
  readonly blockBytes: number;

  /** @throws {NativeError} when the kernels do not serve such a layer. */
  constructor(layers: readonly KvLayer[]) {
    const shapes = layers.flatMap(({ kvHeads, keyDim, valueDim, dtype }) => [
      ...[kvHeads, keyDim, valueDim],
      dtype === "float16" ? 1 : 0,
    ]);
    const call = native().shim_kv_pool;
    this.id = check("shim_kv_pool", call(Int32Array.from(shapes), layers.length));
    const bytes = new Float64Array(1);
    check("shim_kv_block_bytes", native().shim_kv_block_bytes(this.id, bytes));
    this.blockBytes = bytes[0] ?? 0;
  }

  /** The number of a new block. @throws {NativeError} when there is no memory. */
  take(): number {
    return check("shim_kv_take", native().shim_kv_take(this.id));
  }

  /**
   * The number of a new block that holds what `block` does.
   * @throws {NativeError} when that is not in use, or there is no memory.
   */
  copy(block: number): number {
    return check("shim_kv_copy", native().shim_kv_copy(this.id, block));
  }

  /** Frees a block. */
  giveBack(block: number): void {
    check("shim_kv_give_back", native().shim_kv_give_back(this.id, block));
  }

  /** Frees all. */
  [Symbol.dispose](): void {
    check("shim_free_kv_pool", native().shim_free_kv_pool(this.id));
  }
}
