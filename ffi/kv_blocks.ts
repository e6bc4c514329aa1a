/** Bytes of KV blocks out of a pool and into one, layer by layer, as the kernels keep them. */
import { check, native } from "./bind.ts";
import type { KvPool } from "./kv_pool.ts";

/**
 * How blocks are laid out; it changes whenever `ffi/kernels/kv_cache.h` lays them out otherwise, so
 * that two builds of exo which differ in it refuse each other's bytes.
 */
export const KV_BLOCK_LAYOUT = "exo-kv-32-1";

/** Bytes of a block's part for one layer. @throws {NativeError} when there is no such layer. */
export function kvLayerBytes(pool: KvPool, layer: number): number {
  const bytes = new Float64Array(1);
  check("shim_kv_layer_bytes", native().shim_kv_layer_bytes(pool.id, layer, bytes));
  return bytes[0] ?? 0;
}

/**
 * Copies the parts of blocks for one layer to `out`, one after the other.
 * @throws {NativeError} when a block is not in use, or `out` has not just the room for them.
 */
export function readKvBlocks(
  pool: KvPool,
  layer: number,
  blocks: readonly number[],
  out: Uint8Array<ArrayBuffer>,
): void {
  const { shim_kv_read: call } = native();
  const numbers = Int32Array.from(blocks);
  check("shim_kv_read", call(pool.id, layer, numbers, numbers.length, out, out.length));
}

/**
 * Fills the parts of blocks for one layer with what `readKvBlocks` gave.
 * @throws {NativeError} when a block is not in use, or `data` are not just so many bytes.
 */
export function writeKvBlocks(
  pool: KvPool,
  layer: number,
  blocks: readonly number[],
  data: Uint8Array<ArrayBuffer>,
): void {
  const { shim_kv_write: call } = native();
  const numbers = Int32Array.from(blocks);
  check("shim_kv_write", call(pool.id, layer, numbers, numbers.length, data, data.length));
}
