import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { noise } from "./support.ts";

/** A step as a decoder makes it: a cache that grows by a row, attention over it, a norm. */
function step(cache: mx.Tensor, at: number): mx.Tensor {
  using scope = new mx.Scope();
  const row = mx.fromArray(noise(4 * 8, at), [1, 4, 1, 8]);
  const next = scope.keep(cache.sliceUpdate(row, [0, 0, at, 0], [1, 4, at + 1, 8]));
  cache[Symbol.dispose]();
  const seen = next.slice([0, 0, 0, 0], [1, 4, at + 1, 8]);
  const out = mx.scaledDotProductAttention(row, seen, seen, { scale: 1 });
  const [normed] = [mx.rmsNorm(out, undefined, 1e-5)];
  mx.evalAll([normed, next]);
  assert.ok(Number.isFinite(normed.sum().item()));
  return next;
}

Deno.test("after 1,000 steps, memory and live arrays are what they were after the tenth", () => {
  let cache = mx.zeros([1, 4, 1000, 8]);
  let settled = { activeBytes: 0, arrays: 0 };
  for (let at = 0; at < 1000; at++) {
    cache = step(cache, at);
    const now = { activeBytes: mx.memoryCounters().activeBytes, arrays: mx.liveArrays() };
    if (at === 9) settled = now;
    if (at > 9) assert.deepEqual(now, settled, `at step ${at}`);
  }
  cache[Symbol.dispose]();
  const rest = settled.activeBytes - mx.memoryCounters().activeBytes;
  assert.equal(rest, 1000 * 4 * 8 * 4);
});

const CACHE_BYTES = 64 * 1024 * 64 * 4;

/** The peak of 20 updates of a cache of 16 MiB, over what was in use before. */
function updatePeak(freeFirst: boolean): number {
  using _scope = new mx.Scope();
  const before = mx.memoryCounters().activeBytes;
  let cache = mx.zeros([64, 1024, 64]).eval();
  mx.resetPeakMemory();
  for (let at = 0; at < 20; at++) {
    const next = cache.sliceUpdate(mx.ones([64, 1, 64]), [0, at], [64, at + 1]);
    if (freeFirst) cache[Symbol.dispose]();
    cache = next.eval();
  }
  assert.equal(cache.sum().item(), 20 * 64 * 64);
  return mx.memoryCounters().peakBytes - before;
}

Deno.test("an update of a freed tensor writes in place; of a living one it copies", () => {
  assert.ok(updatePeak(true) < CACHE_BYTES * 1.1);
  assert.ok(updatePeak(false) > CACHE_BYTES * 1.9);
});

Deno.test("counters follow what is made, freed and cleared", () => {
  using _scope = new mx.Scope();
  const before = mx.memoryCounters().activeBytes;
  const x = mx.ones([1024, 1024]).contiguous().add(1).eval();
  assert.ok(mx.memoryCounters().activeBytes >= before + 4 * 2 ** 20);
  x[Symbol.dispose]();
  assert.ok(mx.memoryCounters().peakBytes >= before + 4 * 2 ** 20);
  mx.clearCache();
  assert.equal(mx.memoryCounters().cacheBytes, 0);
});

Deno.test("limits are set and given back; negative ones are refused", () => {
  const before = mx.memoryCounters().limitBytes;
  assert.equal(mx.setMemoryLimit(2 ** 33), before);
  assert.equal(mx.memoryCounters().limitBytes, 2 ** 33);
  assert.equal(mx.setMemoryLimit(before), 2 ** 33);
  mx.setCacheLimit(mx.setCacheLimit(2 ** 20));
  assert.throws(() => mx.setCacheLimit(-1), /shim_set_cache_limit: .* must not be negative/);
});
