import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { scoped } from "./support.ts";

scoped("KvPool counts its blocks as active memory and gives all of it back", () => {
  const before = mx.memoryCounters().activeBytes;
  const layer = { kvHeads: 3, keyDim: 64, valueDim: 64 } as const;
  const pool = new mx.KvPool([layer, { ...layer, dtype: "float16" }]);
  assert.equal(pool.blockBytes, 3 * 128 * mx.KV_BLOCK_POSITIONS * (4 + 2));
  const blocks = [pool.take(), pool.take(), pool.take()];
  assert.equal(new Set(blocks).size, 3);
  assert.equal(mx.memoryCounters().activeBytes - before, 3 * pool.blockBytes);
  pool.giveBack(blocks[1] ?? -1);
  assert.throws(() => pool.giveBack(blocks[1] ?? -1), /not in use/);
  assert.throws(() => pool.copy(blocks[1] ?? -1), /not in use/);
  assert.equal(pool.copy(blocks[0] ?? -1), blocks[1]);
  pool[Symbol.dispose]();
  assert.equal(mx.memoryCounters().activeBytes, before);
});

scoped("KvPool refuses layers that the kernels do not know", () => {
  assert.throws(() => new mx.KvPool([]), /without layers/);
  const odd = { kvHeads: 1, keyDim: 16, valueDim: 17 };
  assert.throws(() => new mx.KvPool([odd]), /multiple of 16/);
});
