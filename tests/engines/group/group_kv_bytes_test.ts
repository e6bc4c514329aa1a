/** Keys and values out of one layout of ranks and into another: the same bits in all of them. */
import { deepEqual, equal, ok, throws } from "node:assert/strict";
import type { Decoder, KvBlock, SequenceCache } from "../../../engines/decoder.ts";
import { GroupDecoder } from "../../../engines/group/group_decoder.ts";
import { kvName } from "../../../engines/group/group_kv_bytes.ts";
import type { KvBytes, PendingBytes } from "../../../engines/prefill/kv_bytes.ts";
import { headSections, splitHeads } from "../../../engines/prefill/kv_heads.ts";
import { ensureSetup, KV_DTYPES, Scope } from "../../../ffi/mod.ts";
import { feed } from "../../conformance/decoder.ts";
import { randomLlama } from "../../support/eight_heads_llama.ts";
import { LocalRing } from "../../support/local_group.ts";
import {
  type Layout,
  ModelStages,
  type StagesOptions,
  WholeModel,
} from "../../support/model_stages.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { CpuDecoder } from "../../../engines/cpu/cpu_decoder.ts";
import { WHOLE_MODEL } from "../../../engines/models/part.ts";
import { loadModel } from "../golden.ts";

await ensureSetup();

/** A prompt of three whole blocks and some tokens. */
const IDS = Array.from({ length: 3 * 32 + 7 }, (_, i) => (i * i + 3) % 320);
const BLOCKS = 3;

/** Of each layer. */
const HEADS = { kvHeads: 4, keyDim: 16, valueDim: 16 };

/** Decoders of one model; what the ranks of each hold goes with it. */
async function world() {
  const owned = new AsyncDisposableStack();
  const dir = owned.use(await TempDir.make());
  const path = `${dir.path}/random`;
  await randomLlama(path);
  return {
    whole: (options: StagesOptions = {}) =>
      owned.use(new WholeModel(path, options.kvDtype)).decoder,
    stages: (layout: Layout, options: StagesOptions = {}) =>
      owned.use(new ModelStages(path, layout, options)),
    path,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function kvOf({ kvBytes }: Decoder): KvBytes {
  ok(kvBytes, "its keys and values can travel");
  return kvBytes;
}

/** What has come, however long it takes. */
function arrived<T>(pending: PendingBytes<T> | undefined): T {
  ok(pending);
  while (!pending.wait(20));
  return pending.collect();
}

function sharesOf(cache: SequenceCache, count = BLOCKS): KvBlock[] {
  return Array.from({ length: count }, (_, index) => {
    const share = cache.share(index);
    ok(share);
    return share;
  });
}

/** All layers of a sequence's whole blocks; several are on their way at once. */
function bytesOf(decoder: Decoder, cache: SequenceCache): Uint8Array[] {
  const kv = kvOf(decoder);
  const blocks = sharesOf(cache);
  const pending = kv.shape.layers.map((_, layer) => kv.read(layer, blocks));
  for (const block of blocks) block[Symbol.dispose]();
  return pending.map((one) => arrived(one));
}

/** A cache that has these bytes. */
function filled(decoder: Decoder, layers: readonly Uint8Array[]): SequenceCache {
  const kv = kvOf(decoder);
  const cache = decoder.makeCache();
  kv.reserve(cache, BLOCKS);
  const data = layers.map((bytes) => Uint8Array.from(bytes));
  const pending = data.map((bytes, layer) => kv.write(layer, cache, bytes));
  for (const one of pending) arrived(one);
  kv.advance(cache, BLOCKS);
  return cache;
}

for (const kvDtype of KV_DTYPES) {
  Deno.test(`keys and values (${kvDtype}) are the same bits in any pipeline, read or written`, async () => {
    await using made = await world();
    const options = { kvDtype };
    const whole = made.whole(options);
    using cache = whole.makeCache();
    const last = feed(whole, cache, IDS);
    const expected = bytesOf(whole, cache);
    for (const layers of [[1, 3], [3, 1], [1, 2, 1], [1, 1, 1, 1]]) {
      const stages = made.stages(layers, options);
      const { decoder } = stages;
      deepEqual(kvOf(decoder).shape, kvOf(whole).shape);
      const sizes = (kv: KvBytes) => kv.shape.layers.map((_, layer) => kv.layerBytes(layer));
      deepEqual(sizes(kvOf(decoder)), sizes(kvOf(whole)));
      {
        using own = decoder.makeCache();
        feed(decoder, own, IDS);
        deepEqual(bytesOf(decoder, own), expected, `read of ${layers}`);
        using other = filled(decoder, expected);
        equal(other.offset, BLOCKS * 32);
        deepEqual(bytesOf(decoder, other), expected, `written to ${layers}`);
        equal(feed(decoder, other, IDS), last, "and a sequence goes on there");
      }
      equal(stages.held, 0);
      deepEqual(stages.cacheBytes, layers.map(() => 0));
    }
  });
}

for (const kvDtype of KV_DTYPES) {
  Deno.test(`keys and values (${kvDtype}) go to the ranks that have their heads, and back`, async () => {
    await using made = await world();
    const whole = made.whole({ kvDtype });
    using cache = whole.makeCache();
    feed(whole, cache, IDS);
    const expected = bytesOf(whole, cache);
    for (const slices of [2, 4]) {
      const { decoder, parts } = made.stages({ slices }, { kvDtype });
      deepEqual(kvOf(decoder).shape, kvOf(whole).shape);
      using other = filled(decoder, expected);
      deepEqual(bytesOf(decoder, other), expected);
      // What a rank computes of the first layer, no sum comes before it, is what it is given of it.
      const own = parts.map((part) => {
        using computed = part.makeCache();
        part.run([{ cache: computed, ids: IDS, logitsCount: 0 }]);
        return bytesOf(part, computed)[0];
      });
      const sectionBytes = headSections(kvDtype, HEADS).map((bytes) => bytes * HEADS.kvHeads);
      const [first] = expected;
      ok(first);
      deepEqual(own, splitHeads(Uint8Array.from(first), { sectionBytes, ranks: slices }));
    }
  });
}

Deno.test("a rank without memory for what comes says so, and all hold what they held", async () => {
  await using made = await world();
  const whole = made.whole();
  using cache = whole.makeCache();
  const last = feed(whole, cache, IDS);
  const layers = bytesOf(whole, cache);
  for (const blocksMax of [[9, 2, 9], [9, 9, 2]]) {
    const stages = made.stages([1, 2, 1], { blocksMax });
    const { decoder } = stages;
    const kv = kvOf(decoder);
    const short = blocksMax.indexOf(2);
    {
      using target = decoder.makeCache();
      kv.reserve(target, BLOCKS);
      const pending = layers.map((bytes, i) => kv.write(i, target, Uint8Array.from(bytes)));
      const outcomes = pending.map((one) => {
        while (!one.wait(20));
        try {
          return one.collect() ?? "ok";
        } catch (error) {
          return (error as Error).message;
        }
      });
      const lacking = `Cannot take keys and values: there is no memory for them on "node-${short}"`;
      const held = [[1, 3], [3, 4]][short - 1] ?? [];
      const expected = [0, 1, 2, 3].map((layer) => {
        return layer >= (held[0] ?? 0) && layer < (held[1] ?? 0) ? lacking : "ok";
      });
      deepEqual(outcomes, expected);
      equal(target.offset, 0);
    }
    deepEqual(stages.cacheBytes, [0, 0, 0]);
    using own = decoder.makeCache();
    equal(feed(decoder, own, IDS), last);
  }
});

Deno.test("what a step that failed has lost is not passed on, and the rest of the group lives", async () => {
  await using made = await world();
  const stages = made.stages([2, 2]);
  const { decoder, parts } = stages;
  const [, second] = parts;
  ok(second);
  using cache = decoder.makeCache();
  const run = second.run.bind(second);
  second.run = () => {
    throw new Error("no luck");
  };
  const step = decoder.launch([{ cache, ids: IDS, logitsCount: 0 }]);
  const blocks = sharesOf(cache);
  const kv = kvOf(decoder);
  // It was launched, and so it is there as far as the first rank knows.
  ok(arrived(kv.read(0, blocks)).length > 0);
  const others = kv.read(3, blocks);
  throws(() => step.collect(), /no luck/);
  second.run = run;
  throws(() => arrived(others), /a step that failed has lost them/);
  {
    // Who goes on from them there has lost them, too, and is given nothing.
    using heir = decoder.makeCache({ blocks, positions: BLOCKS * 32 });
    kv.reserve(heir, 1);
    const bytes = (layer: number) => new Uint8Array(kv.layerBytes(layer));
    arrived(kv.write(0, heir, bytes(0)));
    throws(() => arrived(kv.write(3, heir, bytes(3))), /"node-1" has lost others/);
  }
  for (const block of blocks) block[Symbol.dispose]();
  const whole = made.whole();
  using alone = whole.makeCache();
  equal(feed(decoder, cache, IDS), feed(whole, alone, IDS));
});

Deno.test("bytes on their way are nobody's once nobody waits for them, and steps pass them", async () => {
  await using made = await world();
  const whole = made.whole();
  using alone = whole.makeCache();
  const last = feed(whole, alone, IDS);
  const expected = bytesOf(whole, alone);
  const { decoder } = made.stages([1, 2, 1]);
  const kv = kvOf(decoder);
  using cache = decoder.makeCache();
  feed(decoder, cache, IDS);
  const blocks = sharesOf(cache);
  using other = decoder.makeCache();
  const reads = [1, 3, 2].map((layer) => kv.read(layer, blocks));
  const steps = [IDS.slice(0, 40), IDS.slice(40)].map((ids, i) =>
    decoder.launch([{ cache: other, ids, logitsCount: i }])
  );
  reads[0]?.[Symbol.dispose]();
  const more = kv.read(3, blocks);
  // Asked for in one order, collected in another.
  deepEqual(arrived(more), expected[3]);
  {
    using _scope = new Scope();
    const [, end] = steps.map((step) => step.collect());
    equal(end?.logits(0).toFloat32Array().join(), last);
  }
  deepEqual(arrived(reads[2]), expected[2]);
  deepEqual(arrived(reads[1]), expected[3]);
  for (const block of blocks) block[Symbol.dispose]();
});

Deno.test("a rank that keeps them otherwise has nothing to give or to take, and that is said", async () => {
  await using made = await world();
  const { decoder, parts } = made.stages([2, 2]);
  const kv = kvOf(decoder);
  using cache = decoder.makeCache();
  feed(decoder, cache, IDS);
  const [, second] = parts;
  ok(second);
  Object.assign(second, { kvBytes: undefined });
  const blocks = sharesOf(cache, 1);
  throws(() => arrived(kv.read(2, blocks)), {
    code: "invalid_request",
    message: /have or take 0 bytes, 8192 needed/,
  });
  for (const block of blocks) block[Symbol.dispose]();
  using other = decoder.makeCache();
  kv.reserve(other, 1);
  throws(() => arrived(kv.write(2, other, new Uint8Array(8192))), /have or take 0 bytes, 8192/);
  throws(() => kv.layerBytes(4), /layer 4 of a model of 4/);
});

Deno.test("kvName() tells ranks apart that store numbers otherwise, or pass none on", async () => {
  await using made = await world();
  const names = [...KV_DTYPES, KV_DTYPES[0]].map((kvDtype) => {
    using decoder = made.whole({ kvDtype });
    return kvName(decoder.kvBytes);
  });
  equal(new Set(names).size, KV_DTYPES.length, String(names));
  equal(kvName(undefined), undefined);
});

Deno.test("a group that is not told of all layers passes nothing on", async () => {
  await using made = await world();
  const [group] = new LocalRing(2).groups;
  const { model, weights } = loadModel(made.path, { isPacked: true, part: WHOLE_MODEL });
  using _weights = weights;
  ok(group);
  using decoder = new GroupDecoder({
    ...{ group, split: "tensor", part: new CpuDecoder(model), fingerprint: "w", now: () => 0 },
  });
  equal(decoder.kvBytes, undefined);
});
