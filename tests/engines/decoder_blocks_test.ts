import { equal, throws } from "node:assert/strict";
import { CpuDecoder } from "../../engines/cpu/cpu_decoder.ts";
import type { Decoder } from "../../engines/decoder.ts";
import { MlxDecoder } from "../../engines/mlx/mlx_decoder.ts";
import type { TextModel } from "../../engines/models/text_model.ts";
import { ensureSetup } from "../../ffi/mod.ts";
import { feed, testDecoder, testWindow } from "../conformance/decoder.ts";
import { goldenPath, loadModel } from "./golden.ts";

await ensureSetup();

const CPU = (model: TextModel) => new CpuDecoder(model);
const ONE_BY_ONE = (model: TextModel) => new CpuDecoder(model, { replays: false });
const MLX = (model: TextModel) => new MlxDecoder(model);

/** Windows narrower and wider than a block of the decoder. */
const KINDS: readonly [string, (model: TextModel) => Decoder, string, Record<string, unknown>][] = [
  ["CpuDecoder", CPU, "tiny-tied", {}],
  ["CpuDecoder with a window of 24", CPU, "tiny-window", {}],
  ["CpuDecoder with a window of 70", CPU, "tiny-window", { sliding_window: 70 }],
  ["CpuDecoder with a window in one of its layers", CPU, "tiny-mixed-window", {}],
  ["CpuDecoder without a plan", ONE_BY_ONE, "tiny-tied", {}],
  ["CpuDecoder without a plan, with a window of 24", ONE_BY_ONE, "tiny-window", {}],
  ["MlxDecoder", MLX, "tiny-tied", {}],
  ["MlxDecoder with a window of 24", MLX, "tiny-window", {}],
  ["MlxDecoder with a window of 300", MLX, "tiny-window", { sliding_window: 300 }],
  ["MlxDecoder with a window in one of its layers", MLX, "tiny-mixed-window", {}],
];

for (const [name, make, checkpoint, changes] of KINDS) {
  const isPacked = make !== MLX;
  const underTest = () => {
    const { model, weights } = loadModel(goldenPath(`models/${checkpoint}`), { isPacked, changes });
    const decoder = make(model);
    const dispose = () => [decoder, weights].forEach((one) => one[Symbol.dispose]());
    return { decoder, vocabSize: model.vocabSize, [Symbol.dispose]: dispose };
  };
  testDecoder(name, underTest, { isExact: isPacked, sharesMemory: isPacked });
  if (checkpoint === "tiny-window") testWindow(name, underTest);
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
