import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import { CpuDecoder } from "../../../engines/cpu/cpu_decoder.ts";
import type { Decoder } from "../../../engines/decoder.ts";
import { MlxDecoder } from "../../../engines/mlx/mlx_decoder.ts";
import { vocabularyOf } from "../../../engines/models/part.ts";
import type { Attend, TextModel } from "../../../engines/models/text_model.ts";
import { ensureSetup, fromArray, scaledDotProductAttention, Scope } from "../../../ffi/mod.ts";
import { SumInTurns } from "../../support/model_parts.ts";
import { type RandomLlama, randomLlama } from "../../support/random_llama.ts";
import { TempDir } from "../../support/temp_dir.ts";
import { goldenPath, loadModel, SMOLLM2 } from "../golden.ts";

await ensureSetup();

const KINDS = [
  {
    how: "our kernels",
    isPacked: true,
    make: (model: TextModel) => new CpuDecoder(model, { replays: false, kvDtype: "float32" }),
  },
  { how: "MLX's kernels", isPacked: false, make: (model: TextModel) => new MlxDecoder(model) },
];

interface Kind {
  readonly isPacked: boolean;
  readonly make: (model: TextModel) => Decoder;
}

/** A prompt, and three more tokens one by one. */
const STEPS = [[5, 42, 79, 15, 52, 89, 25, 62, 99, 35, 72], [8], [45], [82]];

/** Logits at the end of each step of the whole model. */
function wholeLogits(path: string, { isPacked, make }: Kind): Float32Array[] {
  const { model, weights } = loadModel(path, { isPacked });
  using _weights = weights;
  using decoder = make(model);
  using cache = decoder.makeCache();
  return STEPS.map((ids) => {
    using _scope = new Scope();
    return decoder.run([{ cache, ids, logitsCount: 1 }]).logits(0).toFloat32Array().slice();
  });
}

/** The same of `size` slices that meet at every sum; the vocabulary is split, and joined here. */
function slicedLogits(path: string, size: number, { isPacked, make }: Kind): Float32Array[] {
  using loaded = new DisposableStack();
  const group = new SumInTurns(size);
  const ranks = Array.from({ length: size }, (_, rank) => {
    const slice = { type: "slice" as const, rank, size, sum: group.sum, splitsVocabulary: true };
    const { model, weights } = loadModel(path, { isPacked, part: slice });
    loaded.use(weights);
    deepEqual(model.vocabulary, vocabularyOf(model.vocabSize, { rank, size }));
    const decoder = loaded.use(make(model));
    return { model, decoder, cache: loaded.use(decoder.makeCache()) };
  });
  const layers = ranks[0]?.model.kvLayers.length ?? 0;
  return STEPS.map((ids) => {
    using _scope = new Scope();
    const parts = group.run((rank) => {
      const { decoder, cache } = ranks[rank] ?? {};
      ok(decoder && cache);
      return decoder.run([{ cache, ids, logitsCount: 1 }]).logits(0).toFloat32Array().slice();
    });
    equal(group.count, 1 + 2 * layers);
    return Float32Array.from(parts.flatMap((part) => [...part]));
  });
}

/** The most by which logits differ; Infinity where there are not as many. */
function farthest(found: readonly Float32Array[], wanted: readonly Float32Array[]): number {
  return Math.max(...wanted.map((row, step) => {
    const other = found[step] ?? new Float32Array();
    if (other.length !== row.length) return Infinity;
    return row.reduce((most, x, i) => Math.max(most, Math.abs(x - (other[i] ?? NaN))), 0);
  }));
}

function likeliestOf(rows: readonly Float32Array[]): number[] {
  return rows.map((row) => row.indexOf(Math.max(...row)));
}

/** What sums in another order may make of logits, which are about 1 to 10 here. */
const TOLERANCE = 1e-4;
/** The same with activations in 16 bits, as our kernels have them for quantised weights. */
const QUANTIZED_TOLERANCE = 2e-3;

const MODELS: readonly { what: string; llama: RandomLlama; sizes: number[]; tolerance: number }[] =
  [
    { what: "of f32", llama: {}, sizes: [2, 4], tolerance: TOLERANCE },
    {
      what: "with biases, tied",
      llama: { hasBiases: true, config: { tie_word_embeddings: true } },
      ...{ sizes: [2, 4], tolerance: TOLERANCE },
    },
    {
      what: "with a window",
      llama: { config: { sliding_window: 6 } },
      ...{ sizes: [2], tolerance: TOLERANCE },
    },
    {
      what: "of 9 heads on 3",
      llama: { config: { num_attention_heads: 9, num_key_value_heads: 3 } },
      ...{ sizes: [3], tolerance: TOLERANCE },
    },
    ...[2, 3, 4, 5, 6, 8].map((bits) => ({
      what: `quantised to ${bits} bits`,
      llama: { quantized: { groupSize: 32, bits } },
      ...{ sizes: [2, 4], tolerance: QUANTIZED_TOLERANCE },
    })),
  ];

for (const { how, ...kind } of KINDS) {
  for (const { what, llama, sizes, tolerance } of MODELS) {
    Deno.test(`slices add up to the whole model ${what}, on ${how}`, async () => {
      await using dir = await TempDir.make();
      const path = await randomLlama(join(dir.path, "llama"), llama);
      const whole = wholeLogits(path, kind);
      for (const size of sizes) {
        const sliced = slicedLogits(path, size, kind);
        const off = farthest(sliced, whole);
        ok(
          off <= (kind.isPacked ? tolerance : TOLERANCE),
          `${size} ranks: logits differ by ${off}`,
        );
        deepEqual(likeliestOf(sliced), likeliestOf(whole));
      }
    });
  }

  Deno.test(`slices add up to the whole model of a GGUF file, on ${how}`, () => {
    for (const name of ["tiny-gguf.gguf", "tiny-gguf-llama3.gguf"]) {
      const path = goldenPath(`models/${name}`);
      const off = farthest(slicedLogits(path, 2, kind), wholeLogits(path, kind));
      ok(off <= QUANTIZED_TOLERANCE, `${name}: logits differ by ${off}`);
    }
  });
}

/** Attention of a prompt that is there at once. */
const attendAtOnce: Attend = ({ queries, keys, values }, { heads, kvHeads, scale, rotary }) => {
  const [rows = 0, width = 0] = queries.shape;
  const split = (x: typeof queries, count: number) =>
    x.reshape(1, rows, count, width / heads).transpose(0, 2, 1, 3);
  const turned = [rotary.turn(split(queries, heads), 0), rotary.turn(split(keys, kvHeads), 0)];
  const [q, k] = turned as [typeof queries, typeof queries];
  const out = scaledDotProductAttention(q, k, split(values, kvHeads), { scale, mask: "causal" });
  return out.transpose(0, 2, 1, 3).reshape(rows, width);
};

Deno.test("slices that do not split the vocabulary leave the head to the first rank", async () => {
  await using dir = await TempDir.make();
  const path = await randomLlama(join(dir.path, "llama"));
  using _scope = new Scope();
  using loaded = new DisposableStack();
  const ids = fromArray(Int32Array.from(STEPS.flat()));
  const logitsOf = ({ embed, layers, logits }: TextModel) => {
    ok(embed);
    const hidden = layers(embed(ids), attendAtOnce);
    return logits?.(hidden).toFloat32Array().slice();
  };
  const load = (part?: Parameters<typeof loadModel>[1]) => {
    const { model, weights } = loadModel(path, { isPacked: true, ...part });
    loaded.use(weights);
    return model;
  };
  const whole = logitsOf(load()) ?? new Float32Array();
  const group = new SumInTurns(2);
  const ranks = [0, 1].map((rank) =>
    load({ part: { type: "slice", rank, size: 2, sum: group.sum } })
  );
  const [first, second] = group.run((rank) => logitsOf(ranks[rank] as TextModel));
  ok(first);
  equal(second, undefined);
  equal(group.count, 10);
  const off = farthest([first], [whole]);
  ok(off <= TOLERANCE, `logits differ by ${off}`);
});

Deno.test({
  name: "three slices of SmolLM2-135M-Instruct add up to it",
  ignore: SMOLLM2 === undefined, // Needs the GGUF: EXO_TEST_SMOLLM2_GGUF.
  fn() {
    const kind = KINDS[0] as Kind;
    const whole = wholeLogits(SMOLLM2 ?? "", kind);
    const sliced = slicedLogits(SMOLLM2 ?? "", 3, kind);
    const off = farthest(sliced, whole);
    ok(off <= SMOLLM2_TOLERANCE, `logits differ by ${off}`);
    deepEqual(likeliestOf(sliced), likeliestOf(whole));
  },
});

/** Logits of up to 30, after 30 layers with activations in 16 bits. */
const SMOLLM2_TOLERANCE = 0.05;
