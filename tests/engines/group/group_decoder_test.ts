import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { type Decoder, GREEDY, type SequenceCache, StepLost } from "../../../engines/decoder.ts";
import { openCheckpoint } from "../../../engines/mlx/checkpoint.ts";
import { ChatTemplate } from "../../../engines/text/chat_template.ts";
import { TextEngine } from "../../../engines/text_engine.ts";
import { TextTokenizer } from "../../../engines/text/tokenizer.ts";
import { ROUND_MS_MAX } from "../../../engines/group/rounds.ts";
import { GroupDecoder } from "../../../engines/group/group_decoder.ts";
import { ensureSetup, GroupError, Scope } from "../../../ffi/mod.ts";
import { feed, sharesOf, testDecoder, testWindow } from "../../conformance/decoder.ts";
import { ArithmeticDecoder } from "../../support/arithmetic_decoder.ts";
import { ArithmeticGroup } from "../../support/arithmetic_group.ts";
import { LocalRing } from "../../support/local_group.ts";
import { goldenPath, task } from "../golden.ts";

await ensureSetup();

const TRAITS = { isExact: true, sharesMemory: true };

/** The suite's decoder, over so many ranks. */
function underTest(size: number, window?: number) {
  return () => {
    const group = new ArithmeticGroup(size, { layers: 4, ...(window ? { window } : {}) });
    const { decoder } = group;
    return {
      decoder,
      vocabSize: 50,
      activeBytes: () => group.settle(),
      [Symbol.dispose]: () => group[Symbol.dispose](),
    };
  };
}

for (const size of [2, 3]) {
  testDecoder(`GroupDecoder over ${size} ranks`, underTest(size), TRAITS);
  testDecoder(`GroupDecoder over ${size} ranks, with a window`, underTest(size, 40), TRAITS);
  testWindow(`GroupDecoder over ${size} ranks, with a window`, underTest(size, 40));
}

testDecoder("ArithmeticDecoder, which stands for parts of models,", () => {
  const decoder = new ArithmeticDecoder({ layers: 4 });
  const dispose = () => decoder[Symbol.dispose]();
  const activeBytes = () => decoder.cacheBytes;
  return { decoder, vocabSize: 50, activeBytes, [Symbol.dispose]: dispose };
}, TRAITS);

const IDS = Array.from({ length: 45 }, (_, i) => i * i % 50);

/** A sequence's next tokens, of which one is drawn if it says so. */
function input(cache: SequenceCache, ids: readonly number[], isDrawn = true) {
  return isDrawn ? { cache, ids, logitsCount: 1, draw: GREEDY } : { cache, ids, logitsCount: 0 };
}

/** Greedy tokens after `ids`. */
function answer(decoder: Decoder, ids: readonly number[], count: number): number[] {
  using cache = decoder.makeCache();
  const tokens: number[] = [];
  for (let next = ids; tokens.length < count; next = tokens.slice(-1)) {
    using _scope = new Scope();
    tokens.push(decoder.run([input(cache, next)]).drawn(0).id);
  }
  return tokens;
}

for (const size of [2, 3, 4]) {
  Deno.test(`GroupDecoder draws over ${size} ranks what one decoder draws`, () => {
    using group = new ArithmeticGroup(size);
    using one = new ArithmeticDecoder({ layers: 2 * size - 1 });
    deepEqual(answer(group.decoder, IDS, 40), answer(one, IDS, 40));
    equal(group.settle(), 0);
    equal(group.followers[0]?.held, 0);
  });
}

Deno.test("GroupDecoder has as many steps under way as there are ranks, in order", () => {
  using group = new ArithmeticGroup(3);
  using one = new ArithmeticDecoder({ layers: 5 });
  const { decoder } = group;
  equal(decoder.stepsAtOnce, 3);
  using cache = decoder.makeCache();
  using other = decoder.makeCache();
  // A prompt in chunks, one behind the other, and another sequence between them.
  const steps = [
    decoder.launch([input(cache, IDS.slice(0, 20), false)]),
    decoder.launch([input(other, IDS.slice(3, 9))]),
    decoder.launch([input(cache, IDS.slice(20))]),
  ];
  throws(() => decoder.launch([input(cache, [1])]), /no more steps than there are ranks/);
  deepEqual(steps.map(({ isDone }) => isDone), [false, false, false]);
  ok(steps[0]?.wait(20));
  const [, second, third] = steps.map((step) => step.collect());
  equal(second?.drawn(0).id, answer(one, IDS.slice(3, 9), 1)[0]);
  equal(third?.drawn(0).id, answer(one, IDS, 1)[0]);
});

Deno.test("GroupDecoder says what failed on another rank, and loses the step's caches", () => {
  for (const rank of [1, 2]) {
    using group = new ArithmeticGroup(3);
    const { decoder, parts } = group;
    using cache = decoder.makeCache();
    using other = decoder.makeCache();
    feed(decoder, cache, IDS.slice(0, 40));
    feed(decoder, other, IDS.slice(0, 5));
    using prefix = sharesOf(decoder, cache, 40);
    const part = parts[rank];
    ok(part);
    part.fault = (inputs) => inputs.some(({ ids }) => ids.length === 2) ? "no luck" : undefined;
    const failing = decoder.launch([input(cache, [1, 2])]);
    // Launched before anyone knows: those that go on from what is lost are lost, too.
    const behind = decoder.launch([input(cache, [5])]);
    using taken = sharesOf(decoder, cache, 42);
    using heir = decoder.makeCache(taken);
    const next = decoder.launch([input(heir, [3])]);
    throws(() => failing.collect(), { message: "no luck", code: "internal" });
    const beside = decoder.launch([input(other, [7])]);
    throws(() => behind.collect(), StepLost);
    throws(() => next.collect(), StepLost);
    ok(beside.collect().drawn(0).id >= 0);
    deepEqual([cache.offset, heir.offset, other.offset], [0, 0, 6]);
    // What was shared before is whole, and so are caches that begin anew.
    using again = decoder.makeCache(prefix);
    using one = new ArithmeticDecoder({ layers: 5 });
    using fresh = one.makeCache();
    equal(feed(decoder, again, IDS), feed(one, fresh, IDS));
    using anew = one.makeCache();
    equal(feed(decoder, cache, IDS), feed(one, anew, IDS));
    group.settle();
  }
});

Deno.test("GroupDecoder fails before the others hear of it where its own part does", () => {
  using group = new ArithmeticGroup(2);
  const { decoder, parts } = group;
  using cache = decoder.makeCache();
  feed(decoder, cache, IDS.slice(0, 5));
  const [first] = parts;
  ok(first);
  first.fault = () => "no luck";
  throws(() => decoder.launch([input(cache, [1])]), /no luck/);
  first.fault = () => undefined;
  using one = new ArithmeticDecoder({ layers: 3 });
  using fresh = one.makeCache();
  equal(feed(decoder, cache, IDS), feed(one, fresh, IDS));
  group.settle();
});

Deno.test("GroupDecoder computes without what another rank had no memory to begin with", () => {
  using group = new ArithmeticGroup(2);
  const { decoder, parts } = group;
  using cache = decoder.makeCache();
  const second = parts[1];
  ok(second);
  second.blocksMax = 1;
  throws(() => feed(decoder, cache, IDS), /no memory for another block/);
  second.blocksMax = 2;
  using one = new ArithmeticDecoder({ layers: 3 });
  using fresh = one.makeCache();
  equal(feed(decoder, cache, IDS), feed(one, fresh, IDS));
});

Deno.test("GroupDecoder knows what the rank with the least memory has room for", () => {
  using group = new ArithmeticGroup(4, { blocksMax: [0, 9, 5, 7] });
  const { decoder } = group;
  equal(decoder.spareBytes, Infinity);
  decoder.askAll().collect();
  using empty = decoder.makeCache();
  const blockBytes = empty.bytesFor(decoder.blockPositions);
  equal(decoder.spareBytes, 5 * blockBytes);
  using cache = decoder.makeCache();
  feed(decoder, cache, IDS);
  equal(decoder.spareBytes, 3 * blockBytes);
});

Deno.test("GroupDecoder hears which rank has other files of the model, and so does that rank", () => {
  for (const other of [1, 2]) {
    const fingerprints = ["w", "w", "w"].map((same, rank) => rank === other ? "v" : same);
    using group = new ArithmeticGroup(3, { fingerprints });
    const { decoder, ring, followers } = group;
    const message = new RegExp(`files on "node-${other}" are others than those on "node-0"`);
    throws(() => decoder.askAll().collect(), { code: "load_failed", message });
    ring.breakBy(0);
    throws(() => followers[other - 1]?.step(), { code: "load_failed", message });
    throws(() => followers[2 - other]?.step(), { code: "group_broken" });
  }
  // Of several, the first is named, and each knows of itself.
  using group = new ArithmeticGroup(3, { fingerprints: ["w", "v", "u"] });
  throws(() => group.decoder.askAll().collect(), { message: /"node-1" are others/ });
  group.ring.breakBy(0);
  throws(() => group.followers[1]?.step(), { message: /"node-2" are others/ });
});

Deno.test("GroupDecoder asks for the others' memory, unless something under way will tell", () => {
  const blocksMax = [0, 9, 5];
  using group = new ArithmeticGroup(3, { blocksMax });
  const { decoder, ring } = group;
  using cache = decoder.makeCache();
  const blockBytes = cache.bytesFor(decoder.blockPositions);
  const settle = () => {
    while (ring.moveOne());
  };
  decoder.ask();
  decoder.ask();
  equal(ring.waiting(1), 1, "an answer is on its way");
  settle();
  blocksMax[2] = 3;
  decoder.ask();
  equal(decoder.spareBytes, 5 * blockBytes);
  settle();
  decoder.ask();
  equal(decoder.spareBytes, 3 * blockBytes);
  // As many steps as ever, with an answer before them; and behind them none is needed.
  const steps = [IDS.slice(0, 20), IDS.slice(20, 30), IDS.slice(30)].map((ids, i) =>
    decoder.launch([input(cache, ids, i === 2)])
  );
  equal(ring.waiting(1), 4);
  decoder.ask();
  equal(ring.waiting(1), 4);
  using one = new ArithmeticDecoder({ layers: 5 });
  using fresh = one.makeCache();
  const drawn = steps.map((step) => step.collect());
  equal(drawn[2]?.drawn(0).id, one.run([input(fresh, IDS)]).drawn(0).id);
});

Deno.test("A group serves again once a rank that was short of memory has some", () => {
  const blocksMax = [0, 100];
  const { tokenizer, config } = openCheckpoint(goldenPath("models/tiny-tied"));
  const words = new TextTokenizer(tokenizer);
  const vocabSize = Number(config["vocab_size"]);
  using group = new ArithmeticGroup(2, { vocabSize, blocksMax, mayPass: () => true });
  const { decoder } = group;
  let ms = 0;
  const engine = new TextEngine({
    ...{ vocabSize, decoder, tokenizer: words, weights: { [Symbol.dispose]: () => {} } },
    template: new ChatTemplate(words.chatTemplate ?? ""),
    ...{ eosIds: new Set<number>(), contextTokens: 256, samplingDefaults: [], runningMax: 4 },
    ...{ prefillChunkTokens: 64, kvBudgetBytes: 1e9, now: () => ms += 10 },
    spareBytes: () => decoder.spareBytes,
  });
  /** How an answer ends. */
  const ask = (id: string) => {
    const { taskId, payload } = task(id, "hello there");
    engine.submit({ taskId, payload: { ...payload, maxTokens: 4 } });
    const ends: string[] = [];
    while (engine.hasWork()) {
      for (const [, response] of engine.step()) {
        if (response.type !== "chunk") continue;
        const { chunk } = response;
        if (chunk.type === "Finish" || chunk.type === "Error") ends.push(chunk.type);
      }
    }
    return ends;
  };
  deepEqual(ask("with room"), ["Finish"]);
  // At rest, it hears that there is none any more, and gives back what it keeps for others.
  blocksMax[1] = 0;
  engine.relieve();
  while (group.ring.moveOne());
  engine.relieve();
  equal(group.settle(), 0);
  deepEqual(ask("without"), ["Error"]);
  blocksMax[1] = 100;
  deepEqual(ask("again"), ["Finish"]);
  engine.close();
});

Deno.test("GroupDecoder tells of freed caches without a step, and in frames of a limited size", () => {
  using group = new ArithmeticGroup(2);
  const { decoder, ring, followers } = group;
  {
    using cache = decoder.makeCache();
    feed(decoder, cache, IDS);
    for (let i = 0; i < 3_000; i++) cache.share(0)?.[Symbol.dispose]();
    equal(ring.waiting(1), 1, "as much as a frame holds was sent");
  }
  equal(followers[0]?.held, 1);
  equal(group.settle(), 0);
  equal(followers[0]?.held, 0);
  decoder.flush();
  equal(ring.waiting(1), 0, "there is nothing to tell");
});

Deno.test("GroupDecoder ends with what the group says of a rank that is gone", () => {
  using group = new ArithmeticGroup(3);
  const { decoder, ring } = group;
  using cache = decoder.makeCache();
  const step = decoder.launch([input(cache, IDS)]);
  ring.breakBy(2);
  const gone = { code: "group_broken", message: /Rank 2 on "node-2"/ };
  throws(() => step.wait(20), gone);
  throws(() => step.collect(), gone);
  throws(() => decoder.launch([input(cache, [1])]), gone);
});

Deno.test("GroupDecoder says of a rank that is gone within a step what its sums say of it", () => {
  const [group] = new LocalRing(2).groups;
  ok(group);
  using part = new ArithmeticDecoder({ layers: 3 });
  const message = 'Rank 1 on "studio" has left the group';
  part.run = () => {
    throw new GroupError(message);
  };
  using decoder = new GroupDecoder({
    ...{ group, split: "tensor", part, fingerprint: "w", now: () => 0 },
  });
  using cache = decoder.makeCache();
  throws(() => decoder.launch([input(cache, IDS)]), { code: "group_broken", message });
});

Deno.test("GroupDecoder frees all that it has though nobody is left to be told", () => {
  using group = new ArithmeticGroup(2);
  const { decoder, ring, parts } = group;
  const cache = decoder.makeCache();
  feed(decoder, cache, IDS);
  const shares = Array.from({ length: 4_090 }, () => cache.share(0));
  ring.breakBy(1);
  for (const share of shares) share?.[Symbol.dispose]();
  cache[Symbol.dispose]();
  equal(parts[0]?.cacheBytes, 0);
  throws(() => feed(decoder, decoder.makeCache(), IDS), { code: "group_broken" });
});

Deno.test("GroupDecoder waits for a step no longer than the limit", () => {
  const part = new ArithmeticDecoder({ layers: 2, to: 1 });
  let ms = 0;
  const frames: number[] = [];
  using decoder = new GroupDecoder({
    ...{ split: "pipeline", part, fingerprint: "w", now: () => ms += 1_000 },
    group: {
      ...{ rank: 0, size: 2, names: ["a", "b"] },
      send: (header) => frames.push(header.length),
      receive: () => undefined,
      sum: (x) => x,
      arrival: () => Promise.resolve(),
      [Symbol.dispose]: () => {},
    },
  });
  using cache = decoder.makeCache();
  const step = decoder.launch([input(cache, [1])]);
  throws(() => step.collect(), { code: "group_broken", message: /on its way through the ranks/ });
  ok(ms > ROUND_MS_MAX && ms < 2 * ROUND_MS_MAX);
  equal(frames.length, 1);
});
