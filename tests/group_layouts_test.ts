import assert from "node:assert/strict";
import { openCheckpoint } from "../engines/mlx/checkpoint.ts";
import { MlxDecoder } from "../engines/mlx/mlx_decoder.ts";
import { TextTokenizer } from "../engines/text/tokenizer.ts";
import { ensureSetup, Scope } from "../ffi/mod.ts";
import { goldenPath, loadModel } from "./engines/golden.ts";
import { writeDenseFolder } from "./support/dense_folder.ts";
import { TempDir } from "./support/temp_dir.ts";
import { compare, type Comparison, inAll } from "./verify/answer_comparison.ts";
import { allowanceOf, type GroupLayout, LayoutBench, layoutName } from "./verify/group_layouts.ts";
import { ANSWER_TOKENS, type SaidToken, tokensTogether } from "./verify/greedy_answer.ts";

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

const answer = (changes: Partial<SaidToken> = {}): SaidToken[] =>
  Array.from({ length: ANSWER_TOKENS }, (_, at) => {
    const token = { bytes: [0x80, at], logprob: -0.5, margin: 1 };
    return at === 40 ? { ...token, ...changes } : token;
  });

const PIPELINE = { sharding: "Pipeline", logprobError: 0 } as const;
const TENSOR = { sharding: "Tensor", logprobError: 0.01 } as const;

Deno.test("a pipeline may not differ in any token, however narrow the lead", () => {
  const narrow = answer({ margin: 0.01 });
  // As text, it is the same.
  assert.throws(() => compare(narrow, answer({ bytes: [0x81, 40] }), PIPELINE), /token 40/);
  const same = { tokens: ANSWER_TOKENS, logprobError: 0, parted: 0 };
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

Deno.test("a pipeline's logprobs are exact, and a tensor group's in f32 within twice 1e-4", () => {
  const most = (sharding: GroupLayout["sharding"]) =>
    allowanceOf({ model: "random", sharding, ranks: 2 }).logprobError;
  assert.deepEqual([most("Pipeline"), most("Tensor")], [0, 2e-4]);
});

Deno.test("answers that part early prove nothing, and those of a pipeline may not part", () => {
  const compared = (...tokens: number[]): Comparison[] =>
    tokens.map((tokens) => ({ tokens, logprobError: 0, parted: 0 }));
  assert.equal(inAll(compared(64, 64, 64, 16), "Tensor").tokens, 208);
  assert.throws(() => inAll(compared(64, 64, 64, 15), "Tensor"), /15 tokens of an answer/);
  assert.throws(() => inAll(compared(64, 40, 40, 40), "Tensor"), /184 tokens compared, 192/);
  assert.throws(() => inAll(compared(64, 64, 64, 63), "Pipeline"), /63 tokens of an answer/);
});

Deno.test("answers are told apart by the order in which their tokens arrive", () => {
  assert.equal(tokensTogether([0, 1, 2, 0, 1, 0, 2], 3), 2);
  assert.ok(tokensTogether([0, 0, 1, 1], 2) < 0);
});
