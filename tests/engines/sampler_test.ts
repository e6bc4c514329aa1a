import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { resolveSampling, type SamplingParams } from "../../core/sampling.ts";
import { ensureSetup, fromArray, Scope } from "../../ffi/mod.ts";
import { filterLogprobs, sample, samplingKey } from "../../engines/sampler.ts";

await ensureSetup();

const OFF = { topP: 1, minP: 0, topK: 0 };

/** Distinct logits, so that no order is left to chance. */
const logitsOf = fc.uniqueArray(fc.integer({ min: -60, max: 60 }), { minLength: 2, maxLength: 40 })
  .map((values) => values.map((value) => value / 8));

/** The tokens that may be drawn, by the rule, in plain TypeScript. */
function allowed(logits: readonly number[], { topP, minP, topK }: typeof OFF): Set<number> {
  const total = logits.reduce((sum, x) => sum + Math.exp(x), 0);
  let kept = logits.map((x, id) => ({ id, p: Math.exp(x) / total })).sort((a, b) => b.p - a.p);
  let likelier = 0;
  if (topP < 1) {
    kept = kept.filter(({ p }) => {
      const isKept = likelier < topP;
      likelier += p;
      return isKept;
    });
  }
  const best = kept[0]?.p ?? 0;
  kept = kept.filter(({ p }) => p >= minP * best);
  if (topK > 0) kept = kept.slice(0, topK);
  return new Set(kept.map(({ id }) => id));
}

function filtered(logits: readonly number[], options: typeof OFF): Set<number> {
  using _scope = new Scope();
  const logprobs = filterLogprobs(fromArray(logits), options).toNumbers();
  return new Set([...logprobs.keys()].filter((id) => logprobs[id] !== -Infinity));
}

function draw(logits: readonly number[], params: SamplingParams, seed: bigint, index = 0): number {
  using _scope = new Scope();
  const sampling = resolveSampling(params);
  return sample(fromArray(logits), sampling, () => samplingKey(seed, index)).item();
}

Deno.test("filterLogprobs() keeps what the plain rule keeps", () => {
  const options = fc.record({
    topP: fc.oneof(fc.constant(1), fc.double({ min: 0.013, max: 0.987, noNaN: true })),
    minP: fc.oneof(fc.constant(0), fc.double({ min: 0.013, max: 1, noNaN: true })),
    topK: fc.nat(45),
  });
  fc.assert(
    fc.property(logitsOf, options, (logits, options) => {
      const [got, expected] = [filtered(logits, options), allowed(logits, options)];
      // f32 and f64 may disagree about a token that lies on the border itself.
      const odd = [...got.symmetricDifference(expected)];
      ok(odd.length <= 1, `${[...got]} kept, ${[...expected]} expected`);
    }),
    { numRuns: 300 },
  );
});

Deno.test("filterLogprobs() always keeps the likeliest token", () => {
  for (const options of [{ ...OFF, topP: 1e-12 }, { ...OFF, minP: 1 }, { ...OFF, topK: 1 }]) {
    deepEqual([...filtered([0.5, 3, 1], options)], [1]);
  }
});

Deno.test("filterLogprobs() applies top-p before min-p and top-k", () => {
  const logits = [0.4, 0.3, 0.2, 0.1].map(Math.log);
  deepEqual([...filtered(logits, { ...OFF, topP: 0.65 })], [0, 1]);
  deepEqual([...filtered(logits, { topP: 0.95, minP: 0.45, topK: 0 })], [0, 1, 2]);
  deepEqual([...filtered(logits, { topP: 0.95, minP: 0.45, topK: 2 })], [0, 1]);
});

Deno.test("filterLogprobs() gives log-probabilities", () => {
  using _scope = new Scope();
  const logprobs = filterLogprobs(fromArray([1, 2, 3]), OFF).toNumbers();
  const sum = logprobs.reduce((total, x) => total + Math.exp(x), 0);
  ok(Math.abs(sum - 1) < 1e-6);
});

Deno.test("sample() takes the likeliest token at temperature 0, whatever the seed", () => {
  fc.assert(fc.property(logitsOf, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (logits, seed) => {
    equal(draw(logits, { temperature: 0 }, seed), logits.indexOf(Math.max(...logits)));
  }));
});

Deno.test("sample() draws the same token for the same seed and index, others for others", () => {
  const logits = Array.from({ length: 1000 }, () => 0);
  const draws = (seed: bigint) =>
    Array.from({ length: 20 }, (_, i) => draw(logits, { temperature: 1 }, seed, i));
  deepEqual(draws(7n), draws(7n));
  ok(new Set(draws(7n)).size > 10);
  ok(draws(7n).join() !== draws(8n).join());
  ok(draws(2n ** 64n - 1n).join() !== draws(2n ** 32n - 1n).join(), "all 64 bits count");
});

Deno.test("sample() draws as often as temperature and probabilities say", () => {
  const logits = [0.5, 0.3, 0.2].map(Math.log);
  for (const temperature of [1, 0.5, 2]) {
    const weights = logits.map((x) => Math.exp(x / temperature));
    const total = weights.reduce((sum, w) => sum + w, 0);
    const counts = [0, 0, 0];
    const rounds = 2000;
    for (let i = 0; i < rounds; i++) {
      const id = draw(logits, { temperature }, BigInt(i));
      counts[id] = (counts[id] ?? 0) + 1;
    }
    counts.forEach((count, id) => {
      ok(Math.abs(count / rounds - (weights[id] ?? 0) / total) < 0.04, `${temperature}: ${counts}`);
    });
  }
});

Deno.test("sample() never draws what the filters leave out", () => {
  for (let seed = 0n; seed < 200n; seed++) {
    ok(draw([1, 1.1, 1.2, 1.3], { temperature: 5, topK: 2 }, seed) >= 2);
  }
});
