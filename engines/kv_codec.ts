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
}

/** Kept as it is. */
const PLAIN: KvCodec = {
  encode: (x) => [x],
  decode([x]) {
    assert(x, "keys and values are kept as an array");
    return x;
  },
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
  };
}
