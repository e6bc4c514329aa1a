import { concatenate, dequantize, quantize, type Tensor, zeros } from "../ffi/mod.ts";
import type { InstanceConfig } from "../core/instance.ts";
import { assert } from "../core/errors.ts";

/** Bits of a cached key or value; undefined: as the model computes them. */
export type KvBits = InstanceConfig["kvBits"];

/** How a cache on MLX's kernels keeps keys, or values. */
export interface KvCodec {
  /** x [B, kvHeads, L, headDim] as arrays [B, kvHeads, L, …]; each position by itself. */
  encode(x: Tensor): readonly Tensor[];
  /** What the arrays stand for, [B, kvHeads, L, headDim]. */
  decode(parts: readonly Tensor[], headDim: number): Tensor;
  /**
   * The matrix [headDim, headDim] that keys and queries are multiplied by, so that keys lose less
   * and scores stay; undefined where nothing is lost.
   */
  turn(headDim: number): Float32Array<ArrayBuffer> | undefined;
}

/** Kept as it is. */
const PLAIN: KvCodec = {
  encode: (x) => [x],
  decode([x]) {
    assert(x, "keys and values are kept as an array");
    return x;
  },
  turn: () => undefined,
};

/** Dimensions that MLX's smallest group has; others are padded with zeros. */
const GROUP_MIN = 32;

/** Dimensions of a group where they divide a head's; two numbers of 16 bits come with each. */
const GROUP = 64;

/** The codec for so many bits. */
export function kvCodec(bits: KvBits): KvCodec {
  return bits === undefined ? PLAIN : quantizing(bits);
}

function quantizing(bits: 8 | 4): KvCodec {
  const matrices = new Map<number, Float32Array<ArrayBuffer>>();
  const widthOf = (headDim: number) => Math.ceil(headDim / GROUP_MIN) * GROUP_MIN;
  const settings = (headDim: number) => ({
    bits,
    groupSize: widthOf(headDim) % GROUP === 0 ? GROUP : GROUP_MIN,
  });
  return {
    encode(x) {
      const [B = 1, heads = 1, L = 1, headDim = 1] = x.shape;
      const missing = widthOf(headDim) - headDim;
      const padded = missing === 0
        ? x
        : concatenate([x, zeros([B, heads, L, missing], x.dtype)], 3);
      const { weight, scales, biases } = quantize(padded, settings(headDim));
      assert(biases, "affine quantisation has biases");
      return [weight, scales, biases];
    },
    decode([weight, scales, biases], headDim) {
      assert(weight && scales && biases, "quantised keys and values are kept as three arrays");
      const all = dequantize({ weight, scales, biases }, settings(headDim));
      const [B = 1, heads = 1, L = 1, width = 1] = all.shape;
      return width === headDim ? all : all.slice([0, 0, 0, 0], [B, heads, L, headDim]);
    },
    turn(headDim) {
      const matrix = matrices.get(headDim) ?? hadamard(headDim);
      matrices.set(headDim, matrix);
      return matrix;
    },
  };
}

/**
 * Orthogonal and symmetric: Hadamard matrices along the diagonal, of 64 dimensions or the largest
 * power of two that is left. A key's few large dimensions are spread over its group: decision 17.
 */
function hadamard(headDim: number): Float32Array<ArrayBuffer> {
  const matrix = new Float32Array(headDim * headDim);
  for (let from = 0; from < headDim;) {
    const size = Math.min(GROUP, 2 ** Math.floor(Math.log2(headDim - from)));
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const isOdd = (i & j).toString(2).replaceAll("0", "").length % 2 === 1;
        matrix[(from + i) * headDim + from + j] = (isOdd ? -1 : 1) / Math.sqrt(size);
      }
    }
    from += size;
  }
  return matrix;
}
