import { deepEqual, equal, notEqual, throws } from "node:assert/strict";
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

/** A pool's blocks, and what takes them. */
function makeStore() {
  return new BlockStore(new KvPool([{ kvHeads: 1, keyDim: 16, valueDim: 16 }]));
}

Deno.test("PagedCache writes on behind what it shares, and copies what another one shares", () => {
  using store = makeStore();
  const block = store.blockBytes;
  using owner = new PagedCache(store);
  owner.reserve(5);
  owner.advance(5);
  using share = owner.share(0);
  using resumed = new PagedCache(store, { prefix: { blocks: [share], positions: 5 } });
  deepEqual([owner.bytesFor(1), resumed.bytesFor(1), resumed.bytesFor(0)], [0, block, 0]);
  equal(resumed.bytesFor(KV_BLOCK_POSITIONS), 2 * block);
  owner.reserve(1);
  owner.advance(1);
  equal(store.bytes, block);
  resumed.reserve(1);
  notEqual(resumed.blocks[0], owner.blocks[0]);
  deepEqual([store.bytes, resumed.bytesFor(1)], [2 * block, 0]);
});

Deno.test("PagedCache writes into a block that all others have left, from then on alone", () => {
  using store = makeStore();
  const owner = new PagedCache(store);
  owner.reserve(5);
  owner.advance(5);
  const share = owner.share(0);
  using resumed = new PagedCache(store, { prefix: { blocks: [share], positions: 5 } });
  owner[Symbol.dispose]();
  equal(resumed.bytesFor(1), store.blockBytes); // The share is still there.
  share?.[Symbol.dispose]();
  equal(resumed.bytesFor(1), 0);
  resumed.reserve(1);
  resumed.advance(1);
  using later = resumed.share(0);
  equal(later === undefined, false);
  equal(resumed.bytesFor(1), 0);
  equal(store.bytes, store.blockBytes);
});

Deno.test("Shares of a KV block outlive its store without harm", () => {
  const store = makeStore();
  const cache = new PagedCache(store);
  cache.reserve(5);
  cache.advance(5);
  const share = cache.share(0);
  const before = memoryCounters().activeBytes - store.bytes;
  store[Symbol.dispose]();
  equal(memoryCounters().activeBytes, before);
  for (const held of [cache, share, share]) held?.[Symbol.dispose]();
  equal(store.bytes, 0);
});

Deno.test("PagedCache stays whole when memory ends amid a reservation, and goes on from there", () => {
  using store = makeStore();
  using owner = new PagedCache(store);
  owner.reserve(5);
  owner.advance(5);
  using share = owner.share(0);
  using resumed = new PagedCache(store, { prefix: { blocks: [share], positions: 5 } });
  const take = store.take.bind(store);
  let left = 0;
  store.take = (...options) => {
    if (left-- === 0) throw new Error("no memory");
    return take(...options);
  };
  const needed = 4 * store.blockBytes; // The copy, and three more.
  for (const blocks of [0, 1, 2, 0]) {
    const [before, more] = [store.bytes, resumed.bytesFor(4 * KV_BLOCK_POSITIONS - 5)];
    left = blocks;
    throws(() => resumed.reserve(4 * KV_BLOCK_POSITIONS - 5), /no memory/);
    equal(store.bytes - before, blocks * store.blockBytes);
    equal(resumed.bytesFor(4 * KV_BLOCK_POSITIONS - 5), more - blocks * store.blockBytes);
    equal(resumed.offset, 5);
  }
  left = -1;
  resumed.reserve(4 * KV_BLOCK_POSITIONS - 5);
  equal(store.bytes, store.blockBytes + needed);
  equal(new Set([...resumed.blocks, ...owner.blocks]).size, 5);
});
