import { deepEqual, equal, ok } from "node:assert/strict";
import { CpuDecoder } from "../../engines/cpu/cpu_decoder.ts";
import { type Decoder, decoderOf, GREEDY } from "../../engines/decoder.ts";
import { MlxDecoder } from "../../engines/mlx/mlx_decoder.ts";
import { ensureSetup, memoryCounters, Scope } from "../../ffi/mod.ts";
import { goldenPath, loadModel } from "./golden.ts";

await ensureSetup();

const PROMPTS = [[1, 30, 40], [7], Array.from({ length: 40 }, (_, i) => i)];

/** Greedy tokens of each prompt, all in the same steps, or each alone. */
async function generate(decoder: Decoder, together: boolean): Promise<number[][]> {
  const caches = PROMPTS.map(() => decoder.makeCache());
  const answers: number[][] = PROMPTS.map(() => []);
  let inputs: readonly (readonly number[])[] = PROMPTS;
  for (let step = 0; step < 12; step++) {
    using _scope = new Scope();
    const rows = caches.map((cache, i) => {
      return { cache, ids: inputs[i] ?? [], logitsCount: 1, draw: GREEDY };
    });
    const batches = together ? [rows] : rows.map((row) => [row]);
    const best: number[] = [];
    for (const batch of batches) {
      const output = await decoder.run(batch);
      batch.forEach((_, i) => best.push(output.drawn(i).id));
    }
    inputs = best.map((id) => [id]);
    answers.forEach((answer, i) => answer.push(best[i] ?? -1));
  }
  for (const cache of caches) cache[Symbol.dispose]();
  return answers;
}

const EACH = ["tiny-tied", "tiny-window"].flatMap((name) =>
  [true, false].map((isPacked) => ({ name, isPacked }))
);

for (const { name, isPacked } of EACH) {
  Deno.test(`decoderOf() runs sequences of ${name} in one step as each alone, packed: ${isPacked}`, async () => {
    const { model, weights } = loadModel(goldenPath(`models/${name}`), { isPacked });
    using _weights = weights;
    using decoder = decoderOf(model, weights.isPacked);
    ok(decoder instanceof (isPacked ? CpuDecoder : MlxDecoder));
    const before = memoryCounters().activeBytes;
    const alone = await generate(decoder, false);
    deepEqual(await generate(decoder, true), alone);
    equal(memoryCounters().activeBytes, before);
  });
}

Deno.test("CpuDecoder tells what its kernels took", async () => {
  const { model, weights } = loadModel(goldenPath("models/tiny-tied"), { isPacked: true });
  using _weights = weights;
  using decoder = new CpuDecoder(model);
  await generate(decoder, true);
  const times = decoder.kernelTimes() ?? {};
  ok((times["linear"] ?? 0) > 0 && (times["attention"] ?? 0) > 0, JSON.stringify(times));
});

Deno.test("decoderOf() keeps keys and values in as many bits as it is told", () => {
  const { model, weights } = loadModel(goldenPath("models/tiny-tied"), { isPacked: true });
  using _weights = weights;
  const bytesWith = (kvBits?: 8 | 4) => {
    using decoder = decoderOf(model, true, { kvBits });
    using cache = decoder.makeCache();
    return cache.bytesFor(1) / (2 * 2 * 32); // 2 layers of 2 KV heads with 16 dimensions.
  };
  equal(bytesWith(), 2 * 16 * 2);
  equal(bytesWith(8), 2 * (16 + 4));
  // Values of 4 bits lie in whole 16 bytes.
  equal(bytesWith(4), 8 + 16 + 2 * 4);
});
