import { equal, ok } from "node:assert/strict";
import { ensureSetup } from "../../ffi/mod.ts";
import { decoderOf, type SequenceCache } from "../../engines/decoder.ts";
import { KvMemory, type KvMemoryOptions } from "../../engines/kv_memory.ts";
import { goldenPath, loadModel } from "./golden.ts";

await ensureSetup();

/** The memory of the tiny model, with room for so many blocks. */
function memoryOf(blocks: number, options: Partial<KvMemoryOptions> = {}, name = "tiny-tied") {
  const { model, weights } = loadModel(goldenPath(`models/${name}`));
  const owned = new DisposableStack();
  owned.use(weights);
  const decoder = owned.use(decoderOf(model, weights.isPacked));
  const probe = new KvMemory({ decoder, kvBudgetBytes: 0 });
  const blockBytes = probe.bytesOf(1);
  const memory = owned.use(
    new KvMemory({ decoder, kvBudgetBytes: blocks * blockBytes, ...options }),
  );
  return { memory, decoder, blockBytes, [Symbol.dispose]: () => owned.dispose() };
}

type World = ReturnType<typeof memoryOf>;

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** Runs what is missing of these tokens. */
function fill({ decoder }: World, cache: SequenceCache, ids: readonly number[]): void {
  decoder.run([{ cache, ids: ids.slice(cache.offset), logitsCount: 0 }]);
}

/** A request that has come and gone. */
function serve(world: World, ids: readonly number[]): number {
  using cache = world.memory.begin(ids, true);
  const found = cache.offset;
  fill(world, cache, ids);
  world.memory.keep(ids, cache);
  return found;
}

Deno.test("KvMemory lets a request begin where an earlier one was alike, but for its last token", () => {
  using world = memoryOf(100);
  equal(serve(world, range(0, 70)), 0);
  equal(serve(world, range(0, 70)), 69);
  equal(serve(world, [...range(0, 40), ...range(100, 130)]), 40);
  using alone = world.memory.begin(range(0, 70), false);
  equal(alone.offset, 0);
});

Deno.test("KvMemory counts what is kept as free, and lets it go when it is needed", () => {
  using world = memoryOf(10);
  const { memory, decoder, blockBytes } = world;
  serve(world, range(0, 5 * 32));
  equal(memory.prefixBytes, 5 * blockBytes);
  ok(memory.fits(10 * blockBytes) && !memory.fits(10 * blockBytes + 1));
  memory.makeRoom(7 * blockBytes);
  equal(decoder.cacheBytes, 3 * blockBytes);
  memory.makeRoom(7 * blockBytes);
  equal(decoder.cacheBytes, 3 * blockBytes, "there is room already");
  memory.clear();
  equal(decoder.cacheBytes, 0);
});

Deno.test("KvMemory never counts as free what a request still has", () => {
  using world = memoryOf(10);
  const ids = range(0, 5 * 32);
  serve(world, ids);
  using cache = world.memory.begin([...ids, 1], true);
  equal(cache.offset, 5 * 32);
  equal(world.memory.prefixBytes, 0);
  ok(world.memory.fits(5 * world.blockBytes) && !world.memory.fits(5 * world.blockBytes + 1));
});

Deno.test("KvMemory keeps no more for requests to come than it may", () => {
  using few = memoryOf(100, { prefixCacheBytes: 0 });
  serve(few, range(0, 64));
  equal(few.decoder.cacheBytes, 0);
  using world = memoryOf(100, { prefixCacheBytes: 3 * few.blockBytes });
  for (const from of [0, 100, 200]) serve(world, range(from, from + 64));
  equal(world.decoder.cacheBytes, 3 * world.blockBytes);
  equal(serve(world, range(200, 264)), 63);
});

Deno.test("KvMemory takes no more than the system has left", () => {
  let spare = 4;
  using world = memoryOf(100, { spareBytes: () => spare * world.blockBytes });
  ok(world.memory.fits(4 * world.blockBytes) && !world.memory.fits(5 * world.blockBytes));
  serve(world, range(0, 64));
  spare = 1;
  ok(world.memory.fits(3 * world.blockBytes) && !world.memory.fits(4 * world.blockBytes));
  spare = -1;
  ok(world.memory.fits(world.blockBytes) && !world.memory.fits(2 * world.blockBytes));
});

Deno.test("KvMemory knows how long a context there is room for", () => {
  using world = memoryOf(3);
  equal(world.memory.tokensOfOne(1000), 96);
  equal(world.memory.tokensOfOne(50), 50);
  using none = memoryOf(0);
  equal(none.memory.tokensOfOne(50), 0);
});

Deno.test("KvMemory holds no context back that a window lets it hold", () => {
  const name = "tiny-window"; // Of 24 positions: a block's step and what it sees lie in 3 blocks.
  using world = memoryOf(3, { prefillChunkTokens: 100 }, name);
  const { memory, decoder, blockBytes } = world;
  equal(memory.tokensOfOne(5000), 5000);
  using narrow = memoryOf(2, {}, name);
  equal(narrow.memory.tokensOfOne(5000), 64);
  // Admitted are those whose chunks there is room for.
  equal(memory.bytesOf(90), 3 * blockBytes);
  equal(memory.bytesOf(5000), 5 * blockBytes);
  using cache = decoder.makeCache();
  let most = 0;
  for (let tokens = 0; tokens < 2000; tokens += 100) {
    fill(world, cache, range(0, tokens + 100).map((id) => id % 60));
    most = Math.max(most, cache.bytes);
  }
  ok(most <= memory.bytesOf(5000));
});
