/** How a block's part for a layer is made of its KV heads, of which ranks may have some each. */
import { assert } from "../../core/errors.ts";
import { KV_BLOCK_POSITIONS, type KvLayer } from "../../ffi/mod.ts";
import type { KvShape } from "./kv_bytes.ts";

/** Positions and dimensions that lie together in a quantised block. */
const LANES = 16;
const GROUP = 64;

/** Bytes of a scale with its bias. */
const SCALE_BYTES = 4;

/**
 * Bytes of a KV head in each section of a block's part for a layer; a section has all heads, one
 * after the other. As `ffi/kernels/kv_cache.h` lays them out.
 */
export function headSections(kvType: string, { keyDim, valueDim }: KvLayer): number[] {
  const plain = { float32: 4, float16: 2 }[kvType];
  if (plain) return [keyDim, valueDim].map((dim) => KV_BLOCK_POSITIONS * dim * plain);
  assert(kvType === "q8" || kvType === "q4", `a cache of ${kvType} is not one of ours`);
  const isQ8 = kvType === "q8";
  const scales = (dim: number) => Math.ceil(dim / GROUP) * SCALE_BYTES;
  const keys = (isQ8 ? keyDim : Math.ceil(keyDim / 2)) + scales(keyDim);
  const values = (isQ8 ? valueDim : Math.ceil(valueDim / 32) * LANES) + scales(valueDim);
  return [KV_BLOCK_POSITIONS * (keys + values)];
}

/** Bytes of a block's part for a layer. */
export function blockLayerBytes({ kvType }: Pick<KvShape, "kvType">, layer: KvLayer): number {
  return layer.kvHeads * headSections(kvType, layer).reduce((sum, bytes) => sum + bytes, 0);
}

/** Blocks of a layer as ranks have them, each as many of its heads. */
export interface HeadsOfRanks {
  /** Of the whole layer, by section. */
  readonly sectionBytes: readonly number[];
  readonly ranks: number;
}

/** The blocks of a layer, of which each part has the same number of heads. */
export function joinHeads(
  parts: readonly Uint8Array<ArrayBuffer>[],
  heads: HeadsOfRanks,
): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  for (const { rank, at, wholeAt, length } of pieces(whole.length, heads)) {
    const part = parts[rank];
    assert(part, "each rank has a part");
    whole.set(part.subarray(at, at + length), wholeAt);
  }
  return whole;
}

/** The reverse of {@linkcode joinHeads}. */
export function splitHeads(
  whole: Uint8Array<ArrayBuffer>,
  heads: HeadsOfRanks,
): Uint8Array<ArrayBuffer>[] {
  const partBytes = whole.length / heads.ranks;
  const parts = Array.from({ length: heads.ranks }, () => new Uint8Array(partBytes));
  for (const { rank, at, wholeAt, length } of pieces(whole.length, heads)) {
    parts[rank]?.set(whole.subarray(wholeAt, wholeAt + length), at);
  }
  return parts;
}

/** Where the heads of each rank lie, in its part and in the whole. */
function* pieces(wholeBytes: number, { sectionBytes, ranks }: HeadsOfRanks) {
  let [at, wholeAt] = [0, 0];
  while (wholeAt < wholeBytes) {
    for (const bytes of sectionBytes) {
      const length = bytes / ranks;
      for (let rank = 0; rank < ranks; rank++, wholeAt += length) {
        yield { rank, at, wholeAt, length };
      }
      at += length;
    }
  }
}
