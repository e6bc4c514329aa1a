import { equal } from "node:assert/strict";
import { BlockStore } from "../../../engines/cpu/block_store.ts";
import { PagedCache } from "../../../engines/cpu/paged_cache.ts";
import { ensureSetup, KV_BLOCK_POSITIONS, KvPool, memoryCounters } from "../../../ffi/mod.ts";

await ensureSetup();

Deno.test("PagedCache takes blocks as positions come, and gives all back", () => {
  const pool = new KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]);
  using store = new BlockStore(pool);
  const before = memoryCounters().activeBytes;
  {
    using cache = new PagedCache(store);
    equal(cache.bytes, 0);
    cache.reserve(KV_BLOCK_POSITIONS);
    equal(cache.blocks.length, 1);
    cache.advance(KV_BLOCK_POSITIONS - 1);
    cache.reserve(1);
    equal(cache.blocks.length, 1);
    cache.reserve(2);
    equal(cache.blocks.length, 2);
    equal(cache.bytes, 2 * pool.blockBytes);
    equal(memoryCounters().activeBytes - before, cache.bytes);
    equal(cache.offset, KV_BLOCK_POSITIONS - 1);
  }
  equal(memoryCounters().activeBytes, before);
});
