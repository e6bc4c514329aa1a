import { deepEqual, equal, throws } from "node:assert/strict";
import { CpuDecoder } from "../../engines/cpu/cpu_decoder.ts";
import { type Decoder, decoderOf, type SequenceCache } from "../../engines/decoder.ts";
import { MlxDecoder } from "../../engines/mlx/mlx_decoder.ts";
import type { TextModel } from "../../engines/models/text_model.ts";
import {
  encodeStep,
  ensureSetup,
  rowsAttention,
  Scope,
  setStep,
  type Tensor,
  zeros,
} from "../../ffi/mod.ts";
import { feed, testDecoder, testWindow } from "../conformance/decoder.ts";
import { goldenPath, loadModel } from "./golden.ts";

await ensureSetup();

const CPU = (model: TextModel) => new CpuDecoder(model);
const ONE_BY_ONE = (model: TextModel) => new CpuDecoder(model, { replays: false });
const MLX = (model: TextModel) => new MlxDecoder(model);
const bitsOf = (isPacked: boolean, kvBits: 8 | 4) => (model: TextModel) =>
  decoderOf(model, isPacked, { kvBits });

/** Windows narrower and wider than a block of the decoder. */
const KINDS: readonly [string, (model: TextModel) => Decoder, string, Record<string, unknown>][] = [
  ["CpuDecoder", CPU, "tiny-tied", {}],
  ["CpuDecoder with a window of 24", CPU, "tiny-window", {}],
  ["CpuDecoder with a window of 70", CPU, "tiny-window", { sliding_window: 70 }],
  ["CpuDecoder with a window in one of its layers", CPU, "tiny-mixed-window", {}],
  ["CpuDecoder without a plan", ONE_BY_ONE, "tiny-tied", {}],
  ["CpuDecoder without a plan, with a window of 24", ONE_BY_ONE, "tiny-window", {}],
  ["CpuDecoder with a cache of 8 bits", bitsOf(true, 8), "tiny-tied", {}],
  ["CpuDecoder with a cache of 4 bits and a window", bitsOf(true, 4), "tiny-window", {}],
  ["MlxDecoder", MLX, "tiny-tied", {}],
  ["MlxDecoder with a window of 24", MLX, "tiny-window", {}],
  ["MlxDecoder with a window of 300", MLX, "tiny-window", { sliding_window: 300 }],
  ["MlxDecoder with a cache of 8 bits", bitsOf(false, 8), "tiny-tied", {}],
  ["MlxDecoder with a cache of 4 bits and a window", bitsOf(false, 4), "tiny-window", {}],
  ["MlxDecoder with a window in one of its layers", MLX, "tiny-mixed-window", {}],
];

for (const [name, make, checkpoint, changes] of KINDS) {
  const isPacked = !name.startsWith("MlxDecoder");
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

/** A number that fails when it is computed, as one does that a GPU has no memory for. */
function uncomputable(): Tensor {
  setStep(undefined, encodeStep([{ tokens: [0], position: 0, blocks: [], selected: [] }]));
  try {
    const row = zeros([1, 16]);
    const options = { layer: 0, heads: 1, kvHeads: 1, scale: 1 };
    return rowsAttention({ queries: row, keys: row, values: row }, options).sum();
  } finally {
    setStep();
  }
}

/** The model, but where its second layer attends, `fault` changes what comes of it, or throws. */
function faulty(model: TextModel, fault: { now?: (x: Tensor) => Tensor }): TextModel {
  return {
    ...model,
    layers: (x, attend) =>
      model.layers(x, (rows, options) => {
        const out = attend(rows, options);
        return options.layer === 1 && fault.now ? fault.now(out) : out;
      }),
  };
}

for (const checkpoint of ["tiny-tied", "tiny-window"]) {
  Deno.test(`MlxDecoder leaves the sequences of a failed step as they were: ${checkpoint}`, () => {
    const { model, weights } = loadModel(goldenPath(`models/${checkpoint}`), { isPacked: false });
    using _weights = weights;
    const fault: { now?: (x: Tensor) => Tensor } = {};
    using decoder = new MlxDecoder(faulty(model, fault));
    const ids = Array.from({ length: 300 }, (_, i) => i % 60);
    using fresh = decoder.makeCache();
    feed(decoder, fresh, ids.slice(0, 40));
    const expected = feed(decoder, fresh, ids);
    const fails = (cache: SequenceCache, message: RegExp) => {
      using other = decoder.makeCache();
      using _scope = new Scope();
      const rows = { cache, ids: ids.slice(cache.offset), logitsCount: 1 };
      throws(() => decoder.run([{ cache: other, ids: [1, 2], logitsCount: 0 }, rows]), message);
      equal(other.offset, 0);
    };
    using cache = decoder.makeCache();
    feed(decoder, cache, ids.slice(0, 40));
    // In the middle of a step that grows: the step is not there, what it took may be.
    fault.now = () => {
      throw new Error("[metal] out of memory");
    };
    fails(cache, /out of memory/);
    equal(cache.offset, 40);
    delete fault.now;
    equal(feed(decoder, cache, ids), expected);
    // While it is computed: MLX may have overwritten anything by then.
    using computing = decoder.makeCache();
    feed(decoder, computing, ids.slice(0, 40));
    fault.now = (x) => x.add(uncomputable());
    fails(computing, /0 KV blocks/);
    delete fault.now;
    deepEqual([computing.offset, computing.bytes], [0, 0]);
    feed(decoder, computing, ids.slice(0, 40));
    equal(feed(decoder, computing, ids), expected);
  });
}
