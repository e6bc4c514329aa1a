import assert from "node:assert/strict";
import {
  blockLayerBytes,
  headSections,
  joinHeads,
  splitHeads,
} from "../../../engines/prefill/kv_heads.ts";
import { ensureSetup, KV_DTYPES, kvLayerBytes, KvPool } from "../../../ffi/mod.ts";

await ensureSetup();

Deno.test("blocks have as many bytes as the kernels give them, of any shape and type", () => {
  for (const dtype of KV_DTYPES) {
    for (
      const [keyDim, valueDim] of [[16, 16], [64, 64], [65, 80], [80, 128], [192, 128]] as const
    ) {
      const layer = { kvHeads: 3, keyDim, valueDim };
      using pool = new KvPool([{ ...layer, dtype }]);
      const name = `${dtype} ${keyDim} ${valueDim}`;
      assert.equal(blockLayerBytes({ kvType: dtype }, layer), kvLayerBytes(pool, 0), name);
    }
  }
  assert.throws(() => headSections("bfloat16", { kvHeads: 1, keyDim: 1, valueDim: 1 }), /bfloat16/);
});

Deno.test("the heads of ranks lie next to each other in each section of each block", () => {
  const heads = { sectionBytes: [4, 8], ranks: 2 };
  const whole = Uint8Array.from({ length: 24 }, (_, i) => i);
  const parts = splitHeads(whole, heads);
  assert.deepEqual(parts.map((part) => [...part]), [
    [0, 1, 4, 5, 6, 7, 12, 13, 16, 17, 18, 19],
    [2, 3, 8, 9, 10, 11, 14, 15, 20, 21, 22, 23],
  ]);
  assert.deepEqual(joinHeads(parts, heads), whole);
});
