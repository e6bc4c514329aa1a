import assert from "node:assert/strict";
import { openCheckpoint } from "../engines/mlx/checkpoint.ts";
import { MlxDecoder } from "../engines/mlx/mlx_decoder.ts";
import { TextTokenizer } from "../engines/text/tokenizer.ts";
import { ensureSetup, Scope } from "../ffi/mod.ts";
import { goldenPath, loadModel } from "./engines/golden.ts";
import { writeDenseFolder } from "./support/dense_folder.ts";
import { TempDir } from "./support/temp_dir.ts";
import { compare, type Comparison, divergence, inAll } from "./verify/answer_comparison.ts";
import { allowanceOf, type GroupLayout, LayoutBench, layoutName } from "./verify/group_layouts.ts";
import { ANSWER_TOKENS, type SaidToken } from "./verify/greedy_answer.ts";
import { sharedUs } from "./verify/requests_together.ts";

/** The short form of `deno task verify layouts`: each sharding, and each kind of weights. */
const SHORT: readonly GroupLayout[] = [
  { model: "smollm2", sharding: "Pipeline", ranks: 2 },
  { model: "random", sharding: "Tensor", ranks: 2 },
  { model: "random-quantized", sharding: "Tensor", ranks: 2 },
];

const smollm2 = Deno.env.get("EXO_TEST_SMOLLM2_GGUF");

for (const layout of SHORT) {
  Deno.test({
    name: `${layoutName(layout)} nodes, says what one node says` +
      (smollm2 ? "" : " (needs EXO_TEST_SMOLLM2_GGUF)"),
    ignore: !smollm2,
    async fn() {
      await ensureSetup();
      await using bench = await LayoutBench.start(layout.ranks, smollm2 ?? "");
      const { tokens } = await bench.check(layout);
      assert.ok(tokens > 0);
    },
  });
}

Deno.test("the dense folder of a GGUF file is the same model, with the same tokens", async () => {
  await ensureSetup();
  await using dir = await TempDir.make();
  const gguf = goldenPath("models/tiny-gguf.gguf");
  await writeDenseFolder(dir.path, gguf);
  const [wanted, found] = [gguf, dir.path].map((path) => {
    const ids = new TextTokenizer(openCheckpoint(path).tokenizer).encode("over the blue river");
    return { ids, logits: logitsOf(path, ids) };
  });
  assert.ok(wanted && found);
  assert.deepEqual(found.ids, wanted.ids);
  const off = found.logits.map((logit, at) => Math.abs(logit - (wanted.logits[at] ?? NaN)));
  assert.ok(Math.max(...off) <= 1e-4, `logits differ by ${Math.max(...off)}`);
});

/** What MLX's own kernels, which round no activations, say of the token after these. */
function logitsOf(path: string, ids: readonly number[]): number[] {
  const { model, weights } = loadModel(path, { isPacked: false });
  using _weights = weights;
  using decoder = new MlxDecoder(model);
  using cache = decoder.makeCache();
  using _scope = new Scope();
  return [...decoder.run([{ cache, ids, logitsCount: 1 }]).logits(0).toFloat32Array()];
}

/** The likeliest tokens, by their probabilities. */
const topOf = (probabilities: Readonly<Record<string, number>>) =>
  new Map(Object.entries(probabilities).map(([token, p]) => [token, Math.log(p)]));

const answer = (changes: Partial<SaidToken> = {}): SaidToken[] =>
  Array.from({ length: ANSWER_TOKENS }, (_, at) => {
    const token = { bytes: [0x80, at], logprob: -0.5, margin: 1, top: topOf({ a: 0.5, b: 0.25 }) };
    return at === 40 ? { ...token, ...changes } : token;
  });

const PIPELINE = { sharding: "Pipeline", logprobError: 0, divergence: 0 } as const;
const TENSOR = { sharding: "Tensor", logprobError: 0.01, divergence: 0.001 } as const;

Deno.test("a pipeline may not differ in any token, however narrow the lead", () => {
  const narrow = answer({ margin: 0.01 });
  // As text, it is the same.
  assert.throws(() => compare(narrow, answer({ bytes: [0x81, 40] }), PIPELINE), /token 40/);
  const same = { tokens: ANSWER_TOKENS, logprobError: 0, divergence: 0, parted: 0 };
  assert.deepEqual(compare(narrow, narrow, PIPELINE), same);
});

Deno.test("a tensor group may part where the likeliest token hardly leads, and only there", () => {
  const other = answer({ bytes: [65] });
  assert.equal(compare(answer({ margin: 0.1 }), other, TENSOR).parted, 1);
  assert.throws(() => compare(answer({ margin: 0.11 }), other, TENSOR), /leads by 0.11/);
});

Deno.test("a comparison wants whole answers, and logprobs that are near", () => {
  assert.throws(() => compare(answer(), answer().slice(1), TENSOR), /whole/);
  const off = answer({ logprob: -0.501 });
  assert.throws(() => compare(answer(), off, PIPELINE), /logprob off/);
  assert.ok(compare(answer(), off, TENSOR).logprobError > 0);
  assert.throws(() => compare(answer(), off, { ...TENSOR, logprobError: 1e-4 }), /logprob off/);
});

Deno.test("divergence is exact over the tokens that both tell of, and all others as one", () => {
  const wanted = topOf({ a: 0.5, b: 0.25, c: 0.125 });
  assert.equal(divergence(wanted, wanted), 0);
  const found = divergence(wanted, topOf({ a: 0.25, b: 0.5, d: 0.1 }));
  assert.ok(Math.abs(found - 0.25 * Math.log(2)) < 1e-12, `${found}`);
  // What both tell of is all there is, but for rounding.
  const whole = topOf({ a: 0.6, b: 0.4 });
  assert.ok(Math.abs(divergence(whole, topOf({ a: 0.6, b: 0.4000001 }))) < 1e-6);
});

Deno.test("what leaves the chosen token alone is a divergence, also where answers part", () => {
  const off = { top: topOf({ a: 0.5, b: 0.2 }) };
  assert.throws(() => compare(answer(), answer(off), TENSOR), /token 40: diverges by 0.01/);
  const parted = { ...off, bytes: [65] };
  assert.throws(() => compare(answer({ margin: 0 }), answer(parted), TENSOR), /token 40: diverges/);
  assert.throws(
    () => compare(answer(), answer({ top: topOf({ a: 0.5 }) }), TENSOR),
    /1 of 2 likeliest/,
  );
});

Deno.test("a pipeline's logprobs are exact, and a tensor group's in f32 within twice 1e-4", () => {
  const most = (sharding: GroupLayout["sharding"]) =>
    allowanceOf({ model: "random", sharding, ranks: 2 }).logprobError;
  assert.deepEqual([most("Pipeline"), most("Tensor")], [0, 2e-4]);
});

Deno.test("answers that part early prove nothing, and those of a pipeline may not part", () => {
  const compared = (...tokens: number[]): Comparison[] =>
    tokens.map((tokens) => ({ tokens, logprobError: 0, divergence: 0, parted: 0 }));
  assert.equal(inAll(compared(64, 64, 64, 16), "Tensor").tokens, 208);
  assert.throws(() => inAll(compared(64, 64, 64, 15), "Tensor"), /15 tokens of an answer/);
  assert.throws(() => inAll(compared(64, 40, 40, 40), "Tensor"), /184 tokens compared, 192/);
  assert.throws(() => inAll(compared(64, 64, 64, 63), "Pipeline"), /63 tokens of an answer/);
});

Deno.test("requests have in common what lies between the last start and the first end", () => {
  const stretch = (startUs: number, endUs: number) => ({ startUs, durationUs: endUs - startUs });
  assert.equal(sharedUs([stretch(0, 50), stretch(10, 30), stretch(20, 90)]), 10);
  assert.ok(sharedUs([stretch(0, 50), stretch(60, 90)]) < 0);
});
