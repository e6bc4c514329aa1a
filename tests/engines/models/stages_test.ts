import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import { CpuDecoder } from "../../../engines/cpu/cpu_decoder.ts";
import type { Decoder } from "../../../engines/decoder.ts";
import { MlxDecoder } from "../../../engines/mlx/mlx_decoder.ts";
import type { TextModel } from "../../../engines/models/text_model.ts";
import { ensureSetup, Scope } from "../../../ffi/mod.ts";
import { joined, stagesOf } from "../../support/model_parts.ts";
import { randomLlama } from "../../support/random_llama.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { goldenPath, loadModel, SMOLLM2 } from "../golden.ts";

await ensureSetup();

const KINDS: readonly [string, boolean, (model: TextModel) => Decoder][] = [
  ["our kernels, replayed", true, (model) => new CpuDecoder(model)],
  ["our kernels, one by one", true, (model) => new CpuDecoder(model, { replays: false })],
  ["MLX's kernels", false, (model) => new MlxDecoder(model)],
];

/** Logits at the end of a prompt, and after each of three more tokens. */
function logitsOf(decoder: Decoder, ids: readonly number[]): Float32Array[] {
  using cache = decoder.makeCache();
  const inputs = [ids.slice(0, -3), ...ids.slice(-3).map((id) => [id])];
  return inputs.map((input) => {
    using _scope = new Scope();
    const output = decoder.run([{ cache, ids: input, logitsCount: 1 }]);
    return output.logits(0).toFloat32Array().slice();
  });
}

/** Logits of the model at `path`, in stages of so many layers each; whole for one. */
function logitsInStages(
  path: string,
  counts: readonly number[],
  { isPacked, make, ids }: {
    isPacked: boolean;
    make: (model: TextModel) => Decoder;
    ids: readonly number[];
  },
): Float32Array[] {
  using loaded = new DisposableStack();
  const parts = stagesOf(counts).map((part) => {
    const whole = counts.length === 1 ? {} : { part };
    const { model, weights } = loadModel(path, { isPacked, ...whole });
    loaded.use(weights);
    return model;
  });
  const [first] = parts;
  ok(first);
  using decoder = make(parts.length === 1 ? first : joined(parts));
  return logitsOf(decoder, ids);
}

const IDS = Array.from({ length: 40 }, (_, i) => (i * 37 + 5) % 101);

/** Five layers, of which the window is that of some. */
const MIXED = {
  sliding_window: 8,
  layer_types: ["sliding", "full", "sliding", "sliding", "full"].map((t) => `${t}_attention`),
};

const MODELS = {
  "of its own head": {},
  "tied": { config: { tie_word_embeddings: true } },
  "with a window in some layers": { config: MIXED },
  "quantised": { quantized: { groupSize: 32, bits: 4 } },
  "with biases, in bf16": { hasBiases: true, dtype: "bfloat16" as const },
};

for (const [how, isPacked, make] of KINDS) {
  for (const [what, llama] of Object.entries(MODELS)) {
    Deno.test(`stages give the bits of the whole model, ${what}, on ${how}`, async () => {
      await using dir = await TempDir.make();
      const path = await randomLlama(join(dir.path, "llama"), llama);
      const options = { isPacked, make, ids: IDS };
      const whole = logitsInStages(path, [5], options);
      ok(whole.every((row) => row.length === 101 && row.every(Number.isFinite)));
      for (const counts of [[2, 3], [1, 4], [1, 1, 3], [2, 1, 1, 1], [1, 1, 1, 1, 1]]) {
        deepEqual(logitsInStages(path, counts, options), whole, counts.join(" + "));
      }
    });
  }

  Deno.test(`stages of a GGUF file give the bits of the whole model, on ${how}`, () => {
    for (const name of ["tiny-gguf.gguf", "tiny-gguf-llama3.gguf"]) {
      const options = { isPacked, make, ids: IDS };
      const path = goldenPath(`models/${name}`);
      deepEqual(logitsInStages(path, [1, 1], options), logitsInStages(path, [2], options), name);
    }
  });
}

Deno.test("a stage knows its own layers, and has the ends that are its own", async () => {
  await using dir = await TempDir.make();
  const path = await randomLlama(join(dir.path, "llama"), MODELS["with a window in some layers"]);
  const windows = stagesOf([1, 3, 1]).map((part) => {
    const { model, weights } = loadModel(path, { part });
    using _weights = weights;
    deepEqual(
      [Boolean(model.embed), Boolean(model.logits)],
      [part.startLayer === 0, part.endLayer === 5],
    );
    equal(model.hiddenSize, 64);
    return model.kvLayers.map(({ window }) => window);
  });
  deepEqual(windows, [[8], [undefined, 8, 8], [undefined]]);
});

Deno.test({
  name: "stages of SmolLM2-135M-Instruct give the bits of the whole model",
  ignore: SMOLLM2 === undefined, // Needs the GGUF: EXO_TEST_SMOLLM2_GGUF.
  fn() {
    const path = SMOLLM2 ?? "";
    const options = { isPacked: true, make: (model: TextModel) => new CpuDecoder(model), ids: IDS };
    const whole = logitsInStages(path, [30], options);
    deepEqual(logitsInStages(path, [1, 10, 19], options), whole);
  },
});
