import { deepEqual, equal, ok } from "node:assert/strict";
import type { Chunk } from "../../../core/chunk.ts";
import { AppError } from "../../../core/errors.ts";
import { resolveSampling } from "../../../core/sampling.ts";
import { ensureSetup, memoryCounters } from "../../../ffi/mod.ts";
import { decoderOf, type SequenceCache } from "../../../engines/decoder.ts";
import { Generation, type GenerationRequest } from "../../../engines/text/generation.ts";
import { runBatch } from "../../../engines/text/batch_step.ts";
import { ggufTokenizer, goldenPath, loadModel, parityCases, SMOLLM2 } from "../golden.ts";

await ensureSetup();

const REQUEST: GenerationRequest = {
  promptIds: [1, 30, 40, 50],
  sampling: resolveSampling({ temperature: 0 }),
  seed: 0n,
  maxTokens: 2000,
  stop: [],
  eosIds: new Set(),
};

/** What a generation of the model in this file needs beside its request. */
function serve(path: string) {
  const { model, weights } = loadModel(path);
  const tokenizer = ggufTokenizer(path);
  const now = () => performance.now();
  const decoder = decoderOf(model, weights.isPacked);
  const owned = new DisposableStack();
  owned.use(weights);
  owned.use(decoder);
  return { served: { decoder, tokenizer, now }, owned };
}

/** A generation that has begun. */
function begin({ decoder, tokenizer }: ReturnType<typeof serve>["served"], request = REQUEST) {
  const generation = new Generation(request, { tokenizer, submittedAt: 0 });
  generation.start(decoder.makeCache(), 0);
  return generation;
}

/** All that it can run in one step. */
function advance(generation: Generation, served: ReturnType<typeof serve>["served"]): Chunk[] {
  const { results: [chunks] } = runBatch(
    [{ generation, tokens: generation.pendingTokens }],
    served,
  );
  ok(chunks && !(chunks instanceof AppError));
  return [...chunks];
}

/** Memory beyond the cache's own bytes is the same after `steps` steps as after the tenth. */
function holdsNoMore(path: string, steps: number): void {
  const { served, owned } = serve(path);
  using _owned = owned;
  const before = memoryCounters().activeBytes;
  {
    using generation = begin(served);
    const beyondCache = () => memoryCounters().activeBytes - served.decoder.cacheBytes;
    let afterTen = NaN;
    for (let i = 1; i <= steps; i++) {
      advance(generation, served);
      if (i === 10) afterTen = beyondCache();
    }
    ok(served.decoder.cacheBytes > 0);
    equal(beyondCache(), afterTen);
    equal(beyondCache(), before);
  }
  equal(memoryCounters().activeBytes, before);
}

Deno.test("Generation holds nothing but its cache over a thousand steps", () => {
  holdsNoMore(goldenPath("models/tiny-gguf.gguf"), 1000);
});

Deno.test({
  name: "Generation holds nothing but its cache over a hundred steps of SmolLM2",
  ignore: SMOLLM2 === undefined, // Needs the GGUF: EXO_TEST_SMOLLM2_GGUF.
  fn: () => holdsNoMore(SMOLLM2 ?? "", 100),
});

Deno.test("Generation says the text of the tokens that the reference generates", () => {
  const path = goldenPath("models/tiny-gguf.gguf");
  const { served, owned } = serve(path);
  using _owned = owned;
  for (const { tokenIds, greedy, margins } of parityCases("tiny-gguf")) {
    // Only as far as the reference is sure.
    const sure = margins.findIndex((margin) => margin < 0.02);
    const maxTokens = sure < 0 ? greedy.length : sure;
    if (maxTokens === 0) continue;
    using generation = begin(served, { ...REQUEST, promptIds: tokenIds, maxTokens });
    let text = "";
    for (let isDone = false; !isDone;) {
      for (const chunk of advance(generation, served)) {
        if (chunk.type === "Finish") isDone = true;
        else if (chunk.type === "Token") text += chunk.text;
      }
    }
    const bytes = greedy.slice(0, maxTokens).flatMap((id) => [...served.tokenizer.bytesOf(id)]);
    equal(text, new TextDecoder().decode(Uint8Array.from(bytes)));
  }
});

Deno.test("Generation's speed and progress count what is computed, whatever was cached or preempted", () => {
  const { served: real, owned } = serve(goldenPath("models/tiny-gguf.gguf"));
  using _owned = owned;
  let ms = 0;
  const served = { ...real, now: () => ms++ }; // A millisecond for each step.
  const run = (generation: Generation, tokens: number) => {
    const { results: [chunks] } = runBatch([{ generation, tokens }], served);
    ok(chunks && !(chunks instanceof AppError));
    return chunks;
  };
  const speed = (chunks: readonly Chunk[]) => {
    const last = chunks.at(-1);
    return last?.type === "Finish" && last.stats.promptTokensPerSecond;
  };
  const request = { ...REQUEST, maxTokens: 1 };
  using generation = begin(served, request);
  const first = run(generation, 3);
  generation.suspend();
  generation.start(served.decoder.makeCache(), ms);
  const chunks = [...first, ...run(generation, 2), ...run(generation, 2)];
  deepEqual(
    chunks.flatMap((chunk) => chunk.type === "PrefillProgress" ? [chunk.processedTokens] : []),
    [3, 3, 4],
  );
  equal(speed(chunks), 7 * 1000 / 3);
  using block = generation.cache?.share(0);
  ok(block);
  using warm = new Generation(request, { tokenizer: served.tokenizer, submittedAt: ms });
  warm.start(served.decoder.makeCache({ blocks: [block], positions: 3 }), ms);
  equal(speed(run(warm, 1)), 1000);
});

Deno.test("what another instance read is no hit of the prefix cache, and no time in the queue", () => {
  const { served, owned } = serve(goldenPath("models/tiny-gguf.gguf"));
  using _owned = owned;
  const promptIds = Array.from({ length: 100 }, (_, i) => i + 1);
  const cacheOf = (offset: number) =>
    ({ offset, [Symbol.dispose]() {} }) as unknown as SequenceCache;
  const started = (positions: number) => {
    const request = { ...REQUEST, promptIds };
    const generation = new Generation(request, { ...served, submittedAt: 0 });
    generation.readElsewhere({ from: 32, to: 96, ms: 700 });
    generation.start(cacheOf(positions), 1_000);
    return generation;
  };
  equal(started(96).cachedTokens, 32);
  equal(started(64).cachedTokens, 32, "some of it was let go");
  equal(started(20).cachedTokens, 20);
  equal(started(99).cachedTokens, 35, "others have computed the rest meanwhile");
  const step = { ms: 100, endedAt: 2_000, kernelTimes: undefined };
  const last = { ...step, offset: 100, drawn: { id: 5 } };
  const chunks = new Map(started(96).ran(last).map((chunk) => [chunk.type, chunk]));
  deepEqual(chunks.get("PrefillProgress"), {
    ...{ type: "PrefillProgress", processedTokens: 100, totalTokens: 100 },
  });
  const again = started(20);
  const [progress] = again.ran({ ...step, offset: 40, drawn: undefined });
  deepEqual(progress, { type: "PrefillProgress", processedTokens: 96, totalTokens: 100 });
});
