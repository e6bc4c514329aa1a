import { equal, ok } from "node:assert/strict";
import {
  arange,
  clearCache,
  ensureSetup,
  evalAll,
  liveArrays,
  memoryCounters,
  ones,
  resetPeakMemory,
  Scope,
} from "../../ffi/mod.ts";
import { kvCodec } from "../../engines/kv_codec.ts";
import { KvCache, type KvShared } from "../../engines/kv_cache.ts";
import { KV_BLOCK_TOKENS } from "../../engines/layer_cache.ts";

await ensureSetup();

/** What caches of 3 layers share, with 2 heads of 3 features in f32. */
function sharedBy(window?: number): KvShared {
  return {
    layerCount: 3,
    window,
    positionBytes: 3 * 2 * 2 * 3 * 4,
    held: new Set(),
    codec: kvCodec(undefined),
  };
}

/** Positions [from, to) of a cache with 2 heads of 3 features, each number of its own. */
function positions(from: number, to: number) {
  const all = arange(0, 6000, 1, "float32").reshape(1, 2, 1000, 3);
  return all.slice([0, 0, from, 0], [1, 2, to, 3]);
}

Deno.test("KvCache returns all of its memory", () => {
  const [arrays, { activeBytes }] = [liveArrays(), memoryCounters()];
  {
    using cache = new KvCache(sharedBy());
    using _scope = new Scope();
    for (const layer of cache.layers) layer.append(positions(0, 10), positions(0, 10));
    evalAll(cache.release());
    cache.commit();
    equal(cache.offset, 10);
    ok(memoryCounters().activeBytes - activeBytes >= cache.bytes);
  }
  equal(liveArrays(), arrays);
  equal(memoryCounters().activeBytes, activeBytes);
});

Deno.test("KvCache grows layer by layer: one layer's old buffers at most are there beside the new", () => {
  const layerCount = 16;
  const perLayer = 2 * 2 * 64 * 4; // Keys and values of 2 heads with 64 features, f32.
  using cache = new KvCache({
    ...sharedBy(),
    ...{ layerCount, positionBytes: layerCount * perLayer },
  });
  const append = (count: number) => {
    using _scope = new Scope();
    for (const layer of cache.layers) {
      layer.append(ones([1, 2, count, 64]), ones([1, 2, count, 64]));
    }
    evalAll(cache.release());
    cache.commit();
  };
  append(4 * KV_BLOCK_TOKENS);
  clearCache();
  const [told, held, { activeBytes }] = [cache.bytesFor(1), cache.bytes, memoryCounters()];
  equal(told, KV_BLOCK_TOKENS * layerCount * perLayer);
  resetPeakMemory();
  append(1);
  const peak = memoryCounters().peakBytes - activeBytes;
  const oneLayer = held / layerCount;
  ok(peak < told + 1.5 * oneLayer, `${peak} at the peak, ${told} told, ${oneLayer} of a layer`);
});
