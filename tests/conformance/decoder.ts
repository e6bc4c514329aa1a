/**
 * What every decoder must do with caches: the suite that all of them run.
 *
 * Spec worker-engines §10.5, "for each architecture of §19: fresh run = populating run = cached run":
 * run by `decoder_blocks_test.ts` for `llama` and `mistral` with plain, sliding-window and quantised
 * caches. Open until they are built: recurrent and hybrid state (ArraysCache: Mamba, Nemotron-H,
 * Qwen3-Next, Kimi-Linear), several caches in a layer (CacheList: MLA with an indexer), DeepSeek V4,
 * the other families of §19, and images in a real prompt. Their rules for looking up are tested on
 * fake blocks in `tests/engines/text/prefix_cache_test.ts`.
 *
 * @module
 */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { resolveSampling } from "../../core/sampling.ts";
import {
  type Decoder,
  GREEDY,
  type KvBlock,
  likeliest,
  type SequenceCache,
} from "../../engines/decoder.ts";
import { memoryCounters, sampleRows, Scope, stack } from "../../ffi/mod.ts";

/** A decoder for a test, with a model of few words. */
export interface DecoderUnderTest extends Disposable {
  readonly decoder: Decoder;
  readonly vocabSize: number;
  /** Bytes that are in use now; absent: those of native memory. */
  activeBytes?(): number;
}

/** What is true of a decoder beyond the interface. */
export interface DecoderTraits {
  /** Whether a row's bits are the same however its prompt is cut. */
  readonly isExact: boolean;
  /** Whether shares of a block are one piece of memory. */
  readonly sharesMemory: boolean;
}

/** Ids that differ from sequence to sequence. */
function idsOf(count: number, seed: number, vocabSize: number): number[] {
  return Array.from({ length: count }, (_, i) => (i * 7 + i * i * seed + seed) % vocabSize);
}

/** Adds ids in pieces that end at `cuts` and at the end; the bits of the last one's logits. */
export function feed(
  decoder: Decoder,
  cache: SequenceCache,
  ids: readonly number[],
  cuts: readonly number[] = [],
): string {
  const ends = [...cuts.filter((cut) => cut > cache.offset && cut < ids.length), ids.length];
  let bits = "";
  for (const end of ends) {
    using _scope = new Scope();
    const output = decoder.run([{ cache, ids: ids.slice(cache.offset, end), logitsCount: 1 }]);
    bits = output.logits(0).toFloat32Array().join();
  }
  return bits;
}

/** The bits of logits after 50 tokens of each sequence, one by one and all in the same steps. */
function generated(
  decoder: Decoder,
  sequences: readonly { readonly cache: SequenceCache; readonly seed: number }[],
  vocabSize: number,
): string[] {
  let rows: string[] = [];
  for (let i = 0; i < 50; i++) {
    using _scope = new Scope();
    const output = decoder.run(sequences.map(({ cache, seed }) => {
      return { cache, ids: [(i * seed + seed) % vocabSize], logitsCount: 1 };
    }));
    rows = sequences.map((_, row) => output.logits(row).toFloat32Array().join());
  }
  return rows;
}

/** Shares of all blocks that hold the first `positions`; the caller disposes of them. */
export function sharesOf(decoder: Decoder, cache: SequenceCache, positions: number) {
  const count = Math.ceil(positions / decoder.blockPositions);
  const blocks = Array.from({ length: count }, (_, index) => cache.share(index));
  const dispose = () => blocks.forEach((block) => block?.[Symbol.dispose]());
  return { blocks, positions, [Symbol.dispose]: dispose };
}

/** Runs the suite as tests whose names begin with `name`. */
export function testDecoder(
  name: string,
  make: () => DecoderUnderTest,
  { isExact, sharesMemory }: DecoderTraits,
): void {
  const test = (what: string, run: (under: DecoderUnderTest) => void) =>
    Deno.test(`${name} ${what}`, () => {
      using under = make();
      run(under);
    });

  test("resumes to the bits of the run that filled the blocks, and of a fresh one", (under) => {
    const { decoder, vocabSize } = under;
    const B = decoder.blockPositions;
    const ids = idsOf(2 * B + 9, 3, vocabSize);
    for (const at of [1, B - 1, B, B + 1, 2 * B + 8]) {
      using filled = decoder.makeCache();
      feed(decoder, filled, ids.slice(0, at));
      using prefix = sharesOf(decoder, filled, at);
      const populating = feed(decoder, filled, ids);
      using fresh = decoder.makeCache();
      equal(feed(decoder, fresh, ids, [at]), populating);
      // After the owner has gone on, and once it is gone.
      for (const _ of [1, 2]) {
        using resumed = decoder.makeCache(prefix);
        equal(resumed.offset, at);
        equal(feed(decoder, resumed, ids), populating, `resumed at ${at}`);
        filled[Symbol.dispose]();
      }
    }
  });

  test("resumes at any position that blocks hold, and goes another way from there", (under) => {
    const { decoder, vocabSize } = under;
    const B = decoder.blockPositions;
    const [first, other] = [idsOf(B + 30, 3, vocabSize), idsOf(B + 30, 5, vocabSize)];
    using filled = decoder.makeCache();
    feed(decoder, filled, first.slice(0, B + 20));
    using whole = sharesOf(decoder, filled, B + 20);
    for (const at of [0, 1, B - 7, B, B + 1, B + 19]) {
      const ids = [...first.slice(0, at), ...other.slice(at)];
      using fresh = decoder.makeCache();
      const expected = feed(decoder, fresh, ids, [at]);
      const positions = at;
      const blocks = whole.blocks.slice(0, Math.ceil(at / B));
      using resumed = decoder.makeCache({ blocks, positions });
      if (isExact || at === 0 || at === B + 20) equal(feed(decoder, resumed, ids), expected);
      else ok(near(feed(decoder, resumed, ids), expected), `resumed at ${at}`);
    }
    // Nothing of this has touched what was shared.
    const populating = feed(decoder, filled, first);
    using again = decoder.makeCache(whole);
    equal(feed(decoder, again, first), populating);
  });

  test("keeps shared blocks as they are while tokens are generated behind them", (under) => {
    const { decoder, vocabSize } = under;
    const B = decoder.blockPositions;
    const at = B - 10; // Within a block, and over its end.
    const ids = idsOf(at + 1, 3, vocabSize);
    using filled = decoder.makeCache();
    feed(decoder, filled, ids.slice(0, at));
    using prefix = sharesOf(decoder, filled, at);
    using first = decoder.makeCache(prefix);
    using second = decoder.makeCache(prefix);
    const expected = [3, 5, 8].map((seed) => {
      using alone = decoder.makeCache(prefix);
      const bits = feed(decoder, alone, ids);
      return [bits, ...generated(decoder, [{ cache: alone, seed }], vocabSize)].join();
    });
    // All of them at once, the owner of the blocks too.
    const caches = [filled, first, second];
    const bits = caches.map((cache) => feed(decoder, cache, ids));
    const seeds = [3, 5, 8].map((seed, i) => ({ cache: caches[i] ?? filled, seed }));
    const together = generated(decoder, seeds, vocabSize).map((row, i) => [bits[i], row].join());
    together.forEach((row, i) =>
      isExact ? equal(row, expected[i]) : ok(near(row, expected[i] ?? ""))
    );
    using again = decoder.makeCache(prefix);
    equal(feed(decoder, again, ids), bits[0]);
  });

  if (isExact) {
    test("gives the same bits for any way to cut and resume a prompt", (under) => {
      const { decoder, vocabSize } = under;
      const B = decoder.blockPositions;
      const ids = idsOf(5 * B, 3, vocabSize);
      using fresh = decoder.makeCache();
      const expected = feed(decoder, fresh, ids);
      const places = fc.array(fc.integer({ min: 1, max: ids.length - 1 }), { maxLength: 5 });
      fc.assert(
        fc.property(places, (unsorted) => {
          const cuts = unsorted.toSorted((a, b) => a - b);
          using chain = new DisposableStack();
          let cache = chain.use(decoder.makeCache());
          for (const cut of cuts.filter((cut, i) => cut > (cuts[i - 1] ?? 0))) {
            feed(decoder, cache, ids.slice(0, cut));
            using prefix = sharesOf(decoder, cache, cut);
            cache = chain.use(decoder.makeCache(prefix));
          }
          equal(feed(decoder, cache, ids), expected);
        }),
        { numRuns: 30, seed: 1 },
      );
    });
  }

  test("counts its memory after any order of runs, shares, resumptions and disposals", (under) => {
    const { decoder, vocabSize } = under;
    const B = decoder.blockPositions;
    const run = { type: fc.constant("run" as const), at: fc.nat(), count: fc.nat({ max: B + 9 }) };
    const others = fc.record({
      type: fc.constantFrom("share" as const, "resume" as const, "drop" as const),
      at: fc.nat(),
      count: fc.nat({ max: 3 * B }),
    });
    const actions = fc.array(fc.oneof(fc.record(run), others), { maxLength: 14 });
    using warm = decoder.makeCache();
    feed(decoder, warm, [1, 2, 3]);
    warm[Symbol.dispose]();
    fc.assert(
      fc.property(actions, (todo) => {
        const activeBytes = () => under.activeBytes?.() ?? memoryCounters().activeBytes;
        const before = activeBytes();
        using held = new DisposableStack();
        const caches: SequenceCache[] = [];
        const prefixes: { blocks: (KvBlock | undefined)[]; positions: number }[] = [];
        for (const { type, at, count } of todo) {
          const cache = caches[at % (caches.length + 1)] ?? held.use(decoder.makeCache());
          if (!caches.includes(cache)) caches.push(cache);
          const was = decoder.cacheBytes;
          if (type === "run" && count > 0) {
            const expected = cache.bytesFor(count);
            const ids = idsOf(cache.offset + count, at % 9, vocabSize);
            feed(decoder, cache, ids);
            const grown = decoder.cacheBytes - was;
            if (decoder.window === undefined) equal(grown, expected);
            else ok(grown <= expected, `${grown} at most ${expected}`);
          } else if (type === "share") {
            const taken = held.use(sharesOf(decoder, cache, cache.offset));
            prefixes.push(taken);
            if (sharesMemory) equal(decoder.cacheBytes, was);
          } else if (type === "resume") {
            const { blocks = [], positions = 0 } = prefixes[at % (prefixes.length || 1)] ?? {};
            // A window keeps only what the end of the prefix sees.
            const used = blocks.includes(undefined) ? positions : Math.min(count, positions);
            const prefix = { blocks: blocks.slice(0, Math.ceil(used / B)), positions: used };
            caches.push(held.use(decoder.makeCache(prefix)));
            if (sharesMemory) equal(decoder.cacheBytes, was);
          } else if (type === "drop") {
            cache[Symbol.dispose]();
            caches.splice(caches.indexOf(cache), 1);
          }
          equal(activeBytes() - before, decoder.cacheBytes, type);
          const sum = caches.reduce((bytes, one) => bytes + one.bytes, 0);
          ok(sharesMemory || sum <= decoder.cacheBytes);
        }
        // A share tells what goes with it.
        for (const block of prefixes.flatMap(({ blocks }) => blocks)) {
          const [was, own] = [decoder.cacheBytes, block?.ownBytes ?? 0];
          block?.[Symbol.dispose]();
          equal(was - decoder.cacheBytes, own);
        }
        held.dispose();
        equal(decoder.cacheBytes, 0);
        equal(activeBytes(), before);
      }),
      { numRuns: isExact ? 100 : 12, seed: 2 },
    );
  });

  test("tells the most that it holds while positions are added in steps", (under) => {
    const { decoder, vocabSize } = under;
    const B = decoder.blockPositions;
    const ids = idsOf(5 * B + 40, 3, vocabSize);
    using filled = decoder.makeCache();
    feed(decoder, filled, ids.slice(0, B + 7));
    using prefix = sharesOf(decoder, filled, B + 7);
    for (const resumesAt of [0, B + 7]) {
      for (const step of [B / 4, B - 1, B + 3]) {
        using cache = resumesAt > 0 ? decoder.makeCache(prefix) : decoder.makeCache();
        for (const end of [3 * B, ids.length]) {
          const count = end - cache.offset;
          const [was, told] = [decoder.cacheBytes, cache.bytesFor(count, step)];
          ok(told <= cache.bytesFor(count));
          let most = was;
          while (cache.offset < end) {
            feed(decoder, cache, ids.slice(0, Math.min(end, cache.offset + step)));
            most = Math.max(most, decoder.cacheBytes);
          }
          ok(most - was <= told, `${most - was} in steps of ${step}, at most ${told} told`);
          if (decoder.window === undefined) equal(most - was, told);
        }
      }
    }
  });

  test("refuses prefixes that are not whole", (under) => {
    const { decoder, vocabSize } = under;
    const B = decoder.blockPositions;
    using cache = decoder.makeCache();
    throws(() => cache.share(0), /when it has positions/);
    feed(decoder, cache, idsOf(B + 5, 3, vocabSize));
    using whole = sharesOf(decoder, cache, B + 5);
    const [first, second] = whole.blocks;
    const refused = (blocks: readonly (KvBlock | undefined)[], positions: number) =>
      throws(() => decoder.makeCache({ blocks, positions }), /block/);
    const before = decoder.cacheBytes;
    refused([], 1);
    refused([first], B + 1);
    refused([first, second], B);
    refused([first, second], B + 6);
    refused([second, first], B + 5);
    refused([first, undefined], B + 5);
    using foreign = make();
    throws(() => foreign.decoder.makeCache({ blocks: [first], positions: B }), /decoder's/);
    first?.[Symbol.dispose]();
    refused([first], B);
    ok(decoder.cacheBytes <= before);
    deepEqual([cache.offset, cache.bytesFor(0)], [B + 5, 0]);
  });

  test("draws from the rows of its last step what it shows of them", ({ decoder, vocabSize }) => {
    using first = decoder.makeCache();
    using second = decoder.makeCache();
    using third = decoder.makeCache();
    using fourth = decoder.makeCache();
    using _scope = new Scope();
    const inputsOf = (...caches: readonly SequenceCache[]) =>
      caches.map((cache, i) => {
        return { cache, ids: idsOf(5 + i, 2 + i, vocabSize), logitsCount: 1 };
      });
    const shown = decoder.run(inputsOf(first, second));
    const logits = stack([0, 1].map((row) => shown.logits(row)));
    const sampling = resolveSampling({ topP: 0.9 });
    const draws = [0, 1].map((row) => {
      const adjustments = Float64Array.of(row, 0, 1, row + 2, 1, -Infinity);
      return { ...sampling, row, seed: 5n + 2n ** 60n, index: row, adjustments, topLogprobs: 3 };
    });
    const output = decoder.run(
      inputsOf(third, fourth).map((input, i) => ({ ...input, draw: draws[i] })),
    );
    const drawn = [output.drawn(0), output.drawn(1)];
    deepEqual(drawn, sampleRows({ logits }, draws));
    drawn.forEach(({ top }, row) => equal(top?.[0]?.id, likeliest(logits.take(row, 0))));
    // Beside one that shows its logits, and one that wants nothing.
    const beside = decoder.run([
      { cache: first, ids: [1, 2, 3], logitsCount: 2 },
      { cache: second, ids: [4], logitsCount: 0 },
      { cache: third, ids: [5], logitsCount: 1, draw: GREEDY },
    ]);
    const alone = decoder.run([{ cache: fourth, ids: [5], logitsCount: 1 }]);
    ok(beside.drawn(2).id >= 0 && alone.logits(0).size > 0);
    throws(() => beside.drawn(1), /those that wanted it/);
  });
}

/** The part for decoders whose rows see a window in every layer. */
export function testWindow(name: string, make: () => DecoderUnderTest): void {
  Deno.test(`${name} gives back what the window has left behind`, () => {
    using under = make();
    const { decoder, vocabSize } = under;
    const { window = Infinity, blockPositions: B } = decoder;
    const ids = idsOf(window + 5 * B, 3, vocabSize);
    using cache = decoder.makeCache();
    using kept = new DisposableStack();
    const blocks: (KvBlock | undefined)[] = [];
    using empty = decoder.makeCache();
    // What a row sees and a step of a block adds, and what of the first block no row sees.
    const most = (Math.ceil(window / B) + 1) * empty.bytesFor(B);
    for (let to = B; to <= ids.length; to += B) {
      feed(decoder, cache, ids.slice(0, to));
      ok(cache.bytes <= most, `${cache.bytes} at ${to}, at most ${most}`);
      const block = cache.share(to / B - 1);
      if (block) blocks.push(kept.use(block));
    }
    equal(cache.share(0), undefined);
    ok(cache.bytes + cache.bytesFor(1) <= empty.bytesFor(ids.length, 1));
    equal(empty.bytesFor(2 * ids.length, B), empty.bytesFor(ids.length, B));

    // Blocks that no later row sees may be missing, and are not held; one that is seen may not.
    const positions = blocks.length * B;
    const gone = Math.floor((positions + 1 - window) / B);
    ok(gone > 0);
    const seen = blocks.map((block, i) => i < gone ? undefined : block);
    using resumed = decoder.makeCache({ blocks: seen, positions });
    equal(resumed.share(gone - 1), undefined);
    using whole = decoder.makeCache({ blocks, positions });
    equal(whole.bytes, resumed.bytes);
    equal(feed(decoder, resumed, ids), feed(decoder, whole, ids));
    const lacking = blocks.map((block, i) => i <= gone ? undefined : block);
    throws(() => decoder.makeCache({ blocks: lacking, positions }), /decoder's/);
  });
}

/** Whether two rows of logits are as close as sums in another order are. */
export function near(a: string, b: string): boolean {
  const others = b.split(",").map(Number);
  return a.split(",").every((value, i) => Math.abs(Number(value) - (others[i] ?? NaN)) < 1e-3);
}
