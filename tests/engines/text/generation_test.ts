import { equal, ok } from "node:assert/strict";
import { resolveSampling } from "../../../core/sampling.ts";
import { ensureSetup, memoryCounters } from "../../../ffi/mod.ts";
import { decoderOf } from "../../../engines/decoder.ts";
import { Generation, type GenerationRequest } from "../../../engines/text/generation.ts";
import { PrefillPace } from "../../../engines/text/prefill_pace.ts";
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
  const shared = { prefillChunkTokens: 512, now: () => performance.now() };
  const decoder = decoderOf(model, weights.isPacked);
  const owned = new DisposableStack();
  owned.use(weights);
  owned.use(decoder);
  return { served: { decoder, tokenizer, pace: new PrefillPace(), ...shared }, owned };
}

/** Memory beyond the cache's own bytes is the same after `steps` steps as after the tenth. */
async function holdsNoMore(path: string, steps: number): Promise<void> {
  const { served, owned } = serve(path);
  using _owned = owned;
  const before = memoryCounters().activeBytes;
  {
    using generation = new Generation(served, REQUEST);
    const beyondCache = () => memoryCounters().activeBytes - generation.cacheBytes;
    let afterTen = NaN;
    for (let i = 1; i <= steps; i++) {
      await generation.advance();
      if (i === 10) afterTen = beyondCache();
    }
    ok(generation.cacheBytes > 0);
    equal(beyondCache(), afterTen);
    equal(beyondCache(), before);
  }
  equal(memoryCounters().activeBytes, before);
}

Deno.test("Generation holds nothing but its cache over a thousand steps", async () => {
  await holdsNoMore(goldenPath("models/tiny-gguf.gguf"), 1000);
});

Deno.test({
  name: "Generation holds nothing but its cache over a hundred steps of SmolLM2",
  ignore: SMOLLM2 === undefined, // Needs the GGUF: EXO_TEST_SMOLLM2_GGUF.
  fn: () => holdsNoMore(SMOLLM2 ?? "", 100),
});

Deno.test("Generation says the text of the tokens that the reference generates", async () => {
  const path = goldenPath("models/tiny-gguf.gguf");
  const { served, owned } = serve(path);
  using _owned = owned;
  for (const { tokenIds, greedy, margins } of parityCases("tiny-gguf")) {
    // Only as far as the reference is sure.
    const sure = margins.findIndex((margin) => margin < 0.02);
    const maxTokens = sure < 0 ? greedy.length : sure;
    if (maxTokens === 0) continue;
    using generation = new Generation(served, { ...REQUEST, promptIds: tokenIds, maxTokens });
    let text = "";
    for (let isDone = false; !isDone;) {
      for (const response of await generation.advance()) {
        if (response.type !== "chunk") isDone = true;
        else if (response.chunk.type === "Token") text += response.chunk.text;
      }
    }
    const bytes = greedy.slice(0, maxTokens).flatMap((id) => [...served.tokenizer.bytesOf(id)]);
    equal(text, new TextDecoder().decode(Uint8Array.from(bytes)));
  }
});
