import { deepEqual, equal, ok } from "node:assert/strict";
import {
  ensureSetup,
  evalAll,
  fromArray,
  memoryCounters,
  Scope,
  type Tensor,
} from "../../ffi/mod.ts";
import { KV_BLOCK_TOKENS, LayerCache } from "../../engines/layer_cache.ts";
import { kvCodec } from "../../engines/kv_codec.ts";

await ensureSetup();

/** Keys [1, 2, L, headDim] between -1 and 1, no two alike near each other. */
function keysOf(L: number, headDim: number): Tensor {
  const values = Float32Array.from({ length: 2 * L * headDim }, (_, i) => Math.sin(i * 0.7));
  return fromArray(values, [1, 2, L, headDim]);
}

const bytesOf = (parts: readonly Tensor[]) => parts.reduce((sum, { nbytes }) => sum + nbytes, 0);

for (const bits of [8, 4] as const) {
  Deno.test(`kvCodec(${bits}) reads numbers back within a step, of heads of any size`, () => {
    for (const headDim of [64, 128, 96, 80, 16]) {
      using _scope = new Scope();
      const keys = keysOf(5, headDim);
      const found = kvCodec(bits);
      const back = found.decode(found.encode(keys), headDim);
      deepEqual(back.shape, keys.shape);
      equal(back.dtype, keys.dtype);
      // MLX moves a group's steps so that zero is among them: the far end is off by up to one.
      const step = 2 / (2 ** bits - 1);
      const off = back.subtract(keys).abs().max().item();
      ok(off > step / 10 && off <= step, `${headDim}: off by ${off}, a step is ${step}`);
    }
  });

  Deno.test(`kvCodec(${bits}) keeps each position by itself, in the bytes that it should`, () => {
    using _scope = new Scope();
    const { encode } = kvCodec(bits);
    const keys = keysOf(3, 128);
    const together = encode(keys);
    const alone = encode(keys.slice([0, 0, 1, 0], [1, 2, 2, 128]));
    alone.forEach((part, i) => {
      const [B = 1, heads = 1, , width = 1] = part.shape;
      const own = together[i]?.slice([0, 0, 1, 0], [B, heads, 2, width]);
      deepEqual(part.toNumbers(), own?.toNumbers());
    });
    // Codes, and a scale and a bias for each 64 dimensions, in f32 as the keys are.
    equal(bytesOf(together), 2 * 3 * (128 * bits / 8 + 2 * 2 * 4));
    // 80 dimensions are padded to 96, in groups of 32.
    equal(bytesOf(encode(keysOf(1, 80))), 2 * (96 * bits / 8 + 3 * 2 * 4));
  });
}

Deno.test("a LayerCache of 4 bits gives back all positions, and counts what it holds", () => {
  const codec = kvCodec(4);
  const before = memoryCounters().activeBytes;
  {
    using cache = new LayerCache({ codec });
    using _scope = new Scope();
    const keys = keysOf(300, 64);
    const wanted = codec.decode(codec.encode(keys), 64).toNumbers();
    for (const [from, to] of [[0, 5], [5, 6], [6, 300]] as const) {
      const update = keys.slice([0, 0, from, 0], [1, 2, to, 64]);
      const past = cache.append(update, update);
      equal(past.keys.shape[2], to);
      if (to === 300) {
        deepEqual(past.keys.toNumbers(), wanted);
        deepEqual(past.values.toNumbers(), wanted);
      }
      cache.release();
      evalAll(cache.arrays);
      cache.commit();
    }
    // Keys and values of 2 heads, of 64 dimensions each in 32 bytes and two f32.
    equal(cache.bytes, 2 * 2 * 2 * KV_BLOCK_TOKENS * (32 + 8));
  }
  equal(memoryCounters().activeBytes, before);
});

Deno.test("kvCodec() turns keys and queries by an orthogonal matrix, and nothing without bits", () => {
  using _scope = new Scope();
  equal(kvCodec(undefined).turn(64), undefined);
  for (const headDim of [64, 128, 80, 7]) {
    const values = kvCodec(4).turn(headDim);
    ok(values);
    const matrix = fromArray(values, [headDim, headDim]);
    const product = matrix.matmul(matrix.transpose(1, 0)).toNumbers();
    product.forEach((x, i) => ok(Math.abs(x - (i % (headDim + 1) === 0 ? 1 : 0)) < 1e-6));
    // The first dimension is spread evenly over its group.
    const [first = 0] = values;
    const spread = values.slice(0, Math.min(headDim, 64)).filter((x) => Math.abs(x) === first);
    equal(spread.length, 2 ** Math.floor(Math.log2(Math.min(headDim, 64))));
  }
});
