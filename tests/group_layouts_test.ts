import assert from "node:assert/strict";
import { ensureSetup } from "../ffi/setup.ts";
import {
  compare,
  type GroupLayout,
  LayoutBench,
  layoutName,
  type SaidToken,
} from "./verify/group_layouts.ts";

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

const answer = (changes: Partial<SaidToken> = {}): SaidToken[] =>
  Array.from({ length: 48 }, (_, at) => {
    const token = { text: `${at} `, logprob: -0.5, margin: 1 };
    return at === 40 ? { ...token, ...changes } : token;
  });

Deno.test("a pipeline may not differ in any token, however narrow the lead", () => {
  const narrow = answer({ margin: 0.01 });
  assert.throws(() => compare(narrow, answer({ text: "other" }), "Pipeline"), /token 40/);
  assert.deepEqual(compare(narrow, narrow, "Pipeline"), { tokens: 48, logprobError: 0, parted: 0 });
});

Deno.test("a tensor group may part where the likeliest token hardly leads, and only there", () => {
  const other = answer({ text: "other" });
  assert.equal(compare(answer({ margin: 0.1 }), other, "Tensor").parted, 1);
  assert.throws(() => compare(answer({ margin: 0.11 }), other, "Tensor"), /leads by 0.11/);
});

Deno.test("a comparison wants whole answers, and logprobs that are near", () => {
  assert.throws(() => compare(answer(), answer().slice(1), "Tensor"), /whole/);
  const off = answer({ logprob: -0.501 });
  assert.throws(() => compare(answer(), off, "Pipeline"), /logprob off/);
  assert.ok(compare(answer(), off, "Tensor").logprobError > 0);
});
