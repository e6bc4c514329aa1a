import { deepEqual, equal, ok } from "node:assert/strict";
import {
  arange,
  clearCache,
  ensureSetup,
  evalAll,
  liveArrays,
  memoryCounters,
  ones,
  Scope,
} from "../../ffi/mod.ts";
import { KV_BLOCK_TOKENS, LayerCache } from "../../engines/layer_cache.ts";

await ensureSetup();

/** Positions [from, to) of a cache with 2 heads of 3 features, each number of its own. */
function positions(from: number, to: number) {
  const all = arange(0, 6000, 1, "float32").reshape(1, 2, 1000, 3);
  return all.slice([0, 0, from, 0], [1, 2, to, 3]);
}

/** Computes what was written, as a step does. */
function compute(cache: LayerCache): void {
  cache.release();
  evalAll(cache.arrays);
  cache.commit();
}

Deno.test("LayerCache gives back all positions, however they came", () => {
  using cache = new LayerCache();
  using _scope = new Scope();
  for (const [from, to] of [[0, 5], [5, 6], [6, 300], [300, 301], [301, 700]] as const) {
    const update = positions(from, to);
    const past = cache.append(update, update.negative());
    equal(cache.offset, from);
    deepEqual(past.keys.toNumbers(), positions(0, to).toNumbers());
    deepEqual(past.values.toNumbers(), positions(0, to).negative().toNumbers());
    compute(cache);
    equal(cache.offset, to);
  }
});

Deno.test("LayerCache grows in blocks and counts its bytes", () => {
  using cache = new LayerCache();
  equal(cache.bytes, 0);
  using _scope = new Scope();
  const blockBytes = 2 * 2 * KV_BLOCK_TOKENS * 3 * 4; // Keys and values of 2 heads, f32.
  cache.append(positions(0, 1), positions(0, 1));
  compute(cache);
  equal(cache.bytes, blockBytes);
  cache.append(positions(1, 256), positions(1, 256));
  compute(cache);
  equal(cache.bytes, blockBytes);
  cache.append(positions(256, 257), positions(256, 257));
  compute(cache);
  equal(cache.bytes, 2 * blockBytes);
});

Deno.test("LayerCache writes in place between two blocks", () => {
  const cache = new LayerCache();
  const wide = (L: number) => arange(0, 64 * L * 64, 1, "float32").reshape(1, 64, L, 64);
  const append = () => {
    using _scope = new Scope();
    cache.append(wide(1), wide(1));
    compute(cache);
  };
  append();
  const before = memoryCounters().activeBytes;
  const peakBefore = memoryCounters().peakBytes;
  for (let i = 0; i < 20; i++) append();
  equal(memoryCounters().activeBytes, before);
  ok(memoryCounters().peakBytes - peakBefore < cache.bytes / 2, "no copy of the buffer was made");
  cache[Symbol.dispose]();
});

Deno.test("LayerCache counts what MLX counts, whatever MLX holds for reuse", () => {
  clearCache();
  const before = memoryCounters().activeBytes;
  using cache = new LayerCache();
  const append = (L: number) => {
    using _scope = new Scope();
    cache.append(ones([1, 2, L, 16]), ones([1, 2, L, 16]));
    compute(cache);
  };
  const bufferItems = 2 * KV_BLOCK_TOKENS * 16;
  for (const [L, blocks] of [[1, 1], [KV_BLOCK_TOKENS, 2]] as const) {
    // Freed buffers a little larger than the next ones needed.
    const loose = Array.from({ length: 8 }, () => ones([bufferItems * blocks + 900]).eval());
    for (const tensor of loose) tensor[Symbol.dispose]();
    append(L);
    equal(memoryCounters().activeBytes - before, cache.bytes);
  }
});

Deno.test("LayerCache forgets what was written and not computed", () => {
  using cache = new LayerCache();
  const append = (from: number, to: number) =>
    cache.append(positions(from, to), positions(from, to));
  {
    using _scope = new Scope();
    append(0, 300);
    compute(cache);
  }
  for (const to of [301, 600]) { // Within the room that there is, and beyond it.
    const before = liveArrays();
    {
      using _scope = new Scope();
      append(400, to + 100);
      cache.rollBack();
    }
    deepEqual([cache.offset, liveArrays()], [300, before]);
  }
  {
    using _scope = new Scope();
    const past = append(300, 310);
    deepEqual(past.keys.toNumbers(), positions(0, 310).toNumbers());
    // Its buffers are gone once they are overwritten: it begins again.
    cache.release();
    cache.rollBack();
    deepEqual([cache.offset, cache.bytes], [0, 0]);
    deepEqual(append(0, 5).keys.toNumbers(), positions(0, 5).toNumbers());
  }
});
