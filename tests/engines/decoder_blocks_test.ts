import { equal, throws } from "node:assert/strict";
import { CpuDecoder } from "../../engines/cpu/cpu_decoder.ts";
import type { Decoder } from "../../engines/decoder.ts";
import { MlxDecoder } from "../../engines/mlx/mlx_decoder.ts";
import type { TextModel } from "../../engines/models/text_model.ts";
import { ensureSetup } from "../../ffi/mod.ts";
import { feed, testDecoder } from "../conformance/decoder.ts";
import { goldenPath, loadModel } from "./golden.ts";

await ensureSetup();

const KINDS = [
  ["CpuDecoder", true, (model: TextModel) => new CpuDecoder(model)],
  [
    "CpuDecoder without a plan",
    true,
    (model: TextModel) => new CpuDecoder(model, { replays: false }),
  ],
  ["MlxDecoder", false, (model: TextModel) => new MlxDecoder(model)],
] as const;

for (const [name, isPacked, make] of KINDS) {
  const underTest = () => {
    const { model, weights } = loadModel(goldenPath("models/tiny-tied"), { isPacked });
    const decoder: Decoder = make(model);
    const dispose = () => [decoder, weights].forEach((one) => one[Symbol.dispose]());
    return { decoder, vocabSize: model.vocabSize, [Symbol.dispose]: dispose };
  };
  testDecoder(name, underTest, { isExact: isPacked, sharesMemory: isPacked });
}

Deno.test("CpuDecoder leaves the sequence of a failed step as it was", () => {
  const { model, weights } = loadModel(goldenPath("models/tiny-tied"), { isPacked: true });
  using _weights = weights;
  using decoder = new CpuDecoder(model);
  const ids = Array.from({ length: 40 }, (_, i) => i);
  using fresh = decoder.makeCache();
  const expected = feed(decoder, fresh, ids);
  using cache = decoder.makeCache();
  feed(decoder, cache, ids.slice(0, 5));
  const unknown = [...ids.slice(0, 35), model.vocabSize];
  throws(() => feed(decoder, cache, unknown), /beyond the vocabulary/);
  equal(cache.offset, 5);
  // What it took for the step is there for the next.
  equal(cache.bytesFor(35), 0);
  equal(feed(decoder, cache, ids), expected);
});
