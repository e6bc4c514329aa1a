import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { scoped } from "./support.ts";

/** Bytes that differ from block to block and from layer to layer. */
function bytesOf(length: number, seed: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 97 + (i >> 8)) & 255);
}

const LAYER = { kvHeads: 2, keyDim: 80, valueDim: 48 } as const;

for (const dtype of mx.KV_DTYPES) {
  scoped(`blocks of ${dtype} go from one pool to another bit by bit`, () => {
    const layers = [{ ...LAYER, dtype }, { ...LAYER, kvHeads: 3, dtype }];
    using from = new mx.KvPool(layers);
    using to = new mx.KvPool(layers);
    const sent = [from.take(), from.take(), from.take()];
    const taken = [to.take(), to.take(), to.take()].reverse();
    for (const [layer] of layers.entries()) {
      const one = mx.kvLayerBytes(from, layer);
      const bytes = bytesOf(3 * one, layer);
      mx.writeKvBlocks(from, layer, sent, bytes);
      const carried = new Uint8Array(3 * one);
      mx.readKvBlocks(from, layer, sent, carried);
      assert.deepEqual(carried, bytes);
      mx.writeKvBlocks(to, layer, taken, carried);
    }
    for (const [layer] of layers.entries()) {
      const one = mx.kvLayerBytes(to, layer);
      const [, second = -1] = taken;
      const alone = new Uint8Array(one);
      mx.readKvBlocks(to, layer, [second], alone);
      assert.deepEqual(alone, bytesOf(3 * one, layer).slice(one, 2 * one), "layers stay apart");
    }
  });
}

scoped("bytes of a layer, of a block and of a length that are not there are refused", () => {
  using pool = new mx.KvPool([LAYER]);
  const block = pool.take();
  const bytes = new Uint8Array(mx.kvLayerBytes(pool, 0));
  assert.throws(() => mx.kvLayerBytes(pool, 1), /layer 1 of a KV cache that has 1/);
  assert.throws(() => mx.readKvBlocks(pool, -1, [block], bytes), /layer -1/);
  assert.throws(() => mx.writeKvBlocks(pool, 0, [block + 1], bytes), /block 1 is not in use/);
  assert.throws(() => mx.readKvBlocks(pool, 0, [-1], bytes), /block -1 is not in use/);
  const short = bytes.slice(1);
  assert.throws(() => mx.writeKvBlocks(pool, 0, [block], short), /bytes for 1 KV blocks of/);
  assert.throws(() => mx.readKvBlocks(pool, 0, [block, block], bytes), /for 2 KV blocks of/);
});
