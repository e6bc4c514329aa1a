import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { AppError } from "../../core/errors.ts";
import { resolveSampling, type SamplingParams } from "../../core/sampling.ts";
import { likeliest } from "../../engines/decoder.ts";
import { drawRows, type DrawSource } from "../../engines/local_step.ts";
import { type Drawn, Sampler, type SamplerRequest } from "../../engines/sampler.ts";
import { ensureSetup, fromArray, sampleRows, Scope } from "../../ffi/mod.ts";
import {
  adjustedLogits,
  keptIds,
  logSoftmax,
  sharesOf,
  threefry,
  uniformAt,
} from "./sampling_reference.ts";

await ensureSetup();

/** Shares of the total weight by which f32 and f64 may differ at a border. */
const TOLERANCE = 2e-6;

const RUNS = 400;

/** A step's output of rows that are given. */
function outputOf(...rows: readonly (readonly number[])[]): DrawSource {
  const width = rows[0]?.length ?? 0;
  const logits = fromArray(Float32Array.from(rows.flat()), [rows.length, width]);
  return {
    best: (index) => likeliest(logits.take(index, 0)),
    sample: (draws) => sampleRows({ logits }, draws),
  };
}

/** The next token of each sampler, from the row of its number. */
function drawAll(samplers: readonly Sampler[], output: DrawSource): (Drawn | AppError)[] {
  const drawn = drawRows(samplers.map((sampler, row) => ({ ...sampler.next(), row })), output);
  return samplers.map((sampler, i) => {
    try {
      return sampler.accept(drawn[i] ?? { id: -1 });
    } catch (error) {
      if (error instanceof AppError) return error;
      throw error;
    }
  });
}

function draw(sampler: Sampler, output: DrawSource, row: number): Drawn {
  const [drawn] = drawRows([{ ...sampler.next(), row }], output);
  return sampler.accept(drawn ?? { id: -1 });
}

function samplerOf(
  { params = {}, ...rest }: Partial<SamplerRequest> & { readonly params?: SamplingParams },
): Sampler {
  const request = { sampling: resolveSampling(params), seed: 1n, promptIds: [], ...rest };
  return new Sampler(request);
}

/** The first tokens that a sampler draws from one row again and again. */
function drawMany(logits: readonly number[], sampler: Sampler, count: number): Drawn[] {
  using _scope = new Scope();
  const output = outputOf(logits);
  return Array.from({ length: count }, () => draw(sampler, output, 0));
}

function drawIds(logits: readonly number[], sampler: Sampler, count: number): number[] {
  return drawMany(logits, sampler, count).map(({ id }) => id);
}

/** Numbers that f32 has, with many equal ones, and now and then none at all. */
const logit = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: -80, max: 80 }).map((x) => x / 8) },
  { weight: 6, arbitrary: fc.float({ min: -30, max: 30, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom(NaN, -Infinity, -0, 88, -3e38) },
);
const logitsOf = fc.oneof(
  fc.array(logit, { minLength: 1, maxLength: 40 }),
  fc.array(logit, { minLength: 600, maxLength: 1500, size: "max" }),
).filter((logits) => logits.some((x) => x > -Infinity));

const extreme = (...values: readonly number[]) => fc.constantFrom(...values);
const paramsOf: fc.Arbitrary<SamplingParams> = fc.record({
  temperature: fc.oneof(extreme(0, 1e-4, 100), fc.double({ min: 0.1, max: 3, noNaN: true })),
  topP: fc.oneof(extreme(1, 1e-9), fc.double({ min: 0.01, max: 0.999, noNaN: true })),
  minP: fc.oneof(extreme(0, 1), fc.double({ min: 0.001, max: 0.9, noNaN: true })),
  topK: fc.oneof(extreme(0, 1, 1100, 1e9), fc.nat(60)),
  repetitionPenalty: fc.oneof(extreme(1, 100), fc.double({ min: 0.5, max: 2, noNaN: true })),
  repetitionContextTokens: fc.oneof(extreme(0, 65_536), fc.nat(6)),
  presencePenalty: fc.oneof(extreme(0, 2, -2), fc.double({ min: -2, max: 2, noNaN: true })),
  frequencyPenalty: fc.oneof(extreme(0, 2, -2), fc.double({ min: -2, max: 2, noNaN: true })),
});
const requestOf = fc.record({
  params: paramsOf,
  seed: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  promptIds: fc.array(fc.nat(30), { maxLength: 12 }),
  logitBias: fc.uniqueArray(fc.tuple(fc.nat(30), fc.integer({ min: -100, max: 100 })), {
    selector: ([id]) => id,
    maxLength: 4,
  }),
  bannedIds: fc.uniqueArray(fc.nat(30), { maxLength: 2 }).map((ids) => new Set(ids)),
});

/** Whether f32 may keep one token more or less than f64: some border lies at a token's edge. */
function isNearBorder(
  logits: readonly number[],
  { topP = 1, minP = 0 }: Pick<SamplingParams, "topP" | "minP">,
): boolean {
  const numbers = logits.filter((x) => x > -Infinity).sort((a, b) => b - a);
  const [best = 0] = numbers;
  let likelier = 0;
  return logSoftmax(numbers).some((logprob, i) => {
    const below = best - (numbers[i] ?? 0);
    const isAtTopP = topP < 1 && Math.abs(likelier - topP) < TOLERANCE;
    const isAtMinP = minP > 0 && below > 0 && Math.abs(below + Math.log(minP)) < TOLERANCE;
    likelier += Math.exp(logprob);
    return isAtTopP || isAtMinP;
  });
}

Deno.test("Sampler draws what the rules say in double precision, whatever is asked for", () => {
  let compared = 0;
  fc.assert(
    fc.property(logitsOf, requestOf, (logits, { params, ...rest }) => {
      const request = { ...rest, sampling: resolveSampling(params) };
      const sampler = samplerOf({ ...rest, params });
      const generated: number[] = [];
      for (let i = 0; i < 4; i++) {
        const adjusted = adjustedLogits(logits, request, generated);
        if (!adjusted.some((x) => x > -Infinity)) {
          throws(() => drawIds(logits, sampler, 1), /Cannot draw token/);
          return;
        }
        const [id = -1] = drawIds(logits, sampler, 1);
        generated.push(id);
        const { sampling } = request;
        if (sampling.temperature === 0) {
          const largest = adjusted.reduce((a, b) => b > a ? b : a, -Infinity);
          equal(id, adjusted.indexOf(largest));
        } else if (!isNearBorder(adjusted, sampling)) {
          const u = uniformAt(rest.seed, i);
          const share = sharesOf(adjusted, sampling).find((share) => share.id === id);
          ok(share, `token ${id} is none of those kept`);
          ok(share.from - TOLERANCE <= u && u <= share.to + TOLERANCE, `${u}: not ${id}`);
          compared++;
        }
      }
    }),
    { numRuns: RUNS, seed: 6 },
  );
  ok(compared > 500, `only ${compared} draws were compared`);
});

Deno.test("The generator gives the words that its authors published", () => {
  // Random123 1.14, kat_vectors: threefry2x32, 20 rounds; counter, key, result.
  const known = [
    [[0, 0], [0, 0], [0x6b200159, 0x99ba4efe]],
    [[0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], [0x1cb996fc, 0xbb002be7]],
    [[0x243f6a88, 0x85a308d3], [0x13198a2e, 0x03707344], [0xc4923a9c, 0x483df7a0]],
  ] as const;
  for (const [counter, key, result] of known) deepEqual(threefry(key, counter), [...result]);
});

Deno.test("Draws follow the probabilities: chi-square of 20,000 of them", () => {
  const logits = [0.5, 2, -1, 1.5, 0, -3, 1, 2];
  for (const temperature of [0.5, 1, 2]) {
    const params = { temperature };
    const shares = sharesOf(logits, resolveSampling(params));
    const counts = logits.map(() => 0);
    const rounds = 20_000;
    for (const id of drawIds(logits, samplerOf({ params, seed: 5n }), rounds)) {
      counts[id] = (counts[id] ?? 0) + 1;
    }
    const chiSquare = shares.reduce((sum, { id, from, to }) => {
      const expected = rounds * (to - from);
      return sum + ((counts[id] ?? 0) - expected) ** 2 / expected;
    }, 0);
    ok(chiSquare < 24.3, `${temperature}: ${chiSquare}`); // 7 degrees of freedom, p = 0.001.
  }
});

Deno.test("Draw i depends on seed and i alone, not on what else is in the batch", () => {
  const logits = Array.from({ length: 1000 }, (_, i) => Math.sin(i));
  const of = (seed: bigint) => samplerOf({ seed, params: { temperature: 1, topP: 0.99 } });
  const alone = drawIds(logits, of(7n), 20);
  deepEqual(drawIds(logits, of(7n), 20), alone);
  ok(new Set(alone).size > 10);
  for (const other of [8n, 7n + 2n ** 32n, 7n + 2n ** 63n]) {
    ok(drawIds(logits, of(other), 20).join() !== alone.join(), "all 64 bits count");
  }
  using _scope = new Scope();
  const others = logits.map((x) => -x);
  const batch = [of(1n), of(7n), of(2n)];
  const together = alone.map(() => drawAll(batch, outputOf(others, logits, others))[1]);
  deepEqual(together, alone.map((id) => ({ id })));
});

Deno.test("The choices of a request, each with a seed of its own, go different ways", () => {
  const logits = Array.from({ length: 1000 }, () => 0);
  const choices = [0n, 1n, 2n, 3n].map((n) => drawIds(logits, samplerOf({ seed: 42n + n }), 8));
  equal(new Set(choices.map((ids) => ids.join())).size, 4);
  ok(choices.every((ids) => new Set(ids).size > 6));
});

// Spec, worker-engines §8.2, row by row.

Deno.test("temperature 0 takes the likeliest token, whatever the seed; of equal ones the first", () => {
  for (const seed of [0n, 1n, 2n ** 64n - 1n]) {
    const params = { temperature: 0, topP: 0.1, topK: 2 };
    deepEqual(drawIds([1, 5, 3, 5], samplerOf({ params, seed }), 3), [1, 1, 1]);
  }
});

Deno.test("temperature comes last: filters see the probabilities as they were", () => {
  // At temperature 100 all are nearly equal, and top-p 0.5 would keep two.
  const logits = [0.6, 0.25, 0.1, 0.05].map(Math.log);
  const params = { temperature: 100, topP: 0.5 };
  deepEqual(new Set(drawIds(logits, samplerOf({ params }), 50)), new Set([0]));
});

Deno.test("filters keep what they should, in the order top-p, min-p, top-k", () => {
  const logits = [0.1, 0.3, 0.4, 0.2].map(Math.log);
  const drawn = (params: SamplingParams) =>
    [...new Set(drawIds(logits, samplerOf({ params: { temperature: 50, ...params } }), 200))]
      .sort();
  deepEqual(drawn({}), [0, 1, 2, 3]);
  deepEqual(drawn({ topP: 0.65 }), [1, 2]);
  deepEqual(drawn({ topP: 1e-9 }), [2]);
  deepEqual(drawn({ topP: 0.95, minP: 0.45 }), [1, 2, 3]);
  deepEqual(drawn({ minP: 1 }), [2]);
  deepEqual(drawn({ topP: 0.95, minP: 0.45, topK: 2 }), [1, 2]);
  deepEqual(drawn({ topK: 1 }), [2]);
  deepEqual(drawn({ topK: 4 }), [0, 1, 2, 3]);
  deepEqual(drawn({ topK: 9 }), [0, 1, 2, 3]);
});

Deno.test("filters keep the first of equal tokens, however many those are", () => {
  const equals = Array.from({ length: 3000 }, () => 1.5);
  const params = { temperature: 1, topK: 2000, topP: 0.5 };
  const ids = drawIds(equals, samplerOf({ params }), 400);
  equal(keptIds(equals, { topP: 0.5, topK: 2000, minP: 0 }).length, 1500);
  ok(ids.every((id) => id < 1501), `${Math.max(...ids)}`);
  ok(Math.max(...ids) > 1300);
});

Deno.test("repetition_penalty divides positive and multiplies negative logits, once per token", () => {
  const params = { temperature: 0, repetitionPenalty: 2 };
  // 4 becomes 2, below 2.5; twice it would be below 1.5 too.
  deepEqual(drawIds([4, 2.5, 1.5], samplerOf({ params, promptIds: [0, 0, 0] }), 1), [1]);
  deepEqual(drawIds([4, 1.9, 1.5], samplerOf({ params, promptIds: [0, 0, 0] }), 1), [0]);
  deepEqual(drawIds([-1, -1.5, -9], samplerOf({ params, promptIds: [0] }), 1), [1]);
});

Deno.test("repetition_penalty looks at the window of prompt and answer, and no further", () => {
  const params = { temperature: 0, repetitionPenalty: 10, repetitionContextTokens: 2 };
  deepEqual(drawIds([5, 4, 3, 2], samplerOf({ params, promptIds: [0, 1, 3] }), 1), [0]);
  // Each token is penalised for two steps.
  deepEqual(drawIds([5, 4, 3, 2], samplerOf({ params, promptIds: [0] }), 6), [1, 2, 0, 1, 2, 0]);
  const none = { ...params, repetitionContextTokens: 0 };
  deepEqual(drawIds([5, 4], samplerOf({ params: none, promptIds: [0, 0] }), 2), [0, 0]);
});

Deno.test("presence_penalty counts once, frequency_penalty each time, of the answer alone", () => {
  const promptIds = [0, 0, 0];
  const presence = samplerOf({ params: { temperature: 0, presencePenalty: 2 }, promptIds });
  deepEqual(drawIds([5, 4, 1], presence, 5), [0, 1, 0, 0, 0]);
  const frequency = samplerOf({ params: { temperature: 0, frequencyPenalty: 1 }, promptIds });
  deepEqual(drawIds([5, 3.5, 1], frequency, 6), [0, 0, 1, 0, 1, 0]);
  const reward = samplerOf({ params: { temperature: 0, presencePenalty: -2 }, promptIds: [1] });
  deepEqual(drawIds([5, 4.5], reward, 3), [0, 0, 0]);
});

Deno.test("logit_bias adds to logits; banned tokens are never drawn, whatever their bias", () => {
  const params = { temperature: 0 };
  const bias = (id: number, by: number) => ({ params, logitBias: [[id, by]] as const });
  deepEqual(drawIds([5, 4, 3], samplerOf(bias(2, 100)), 1), [2]);
  deepEqual(drawIds([5, 4, 3], samplerOf(bias(0, -100)), 1), [1]);
  const twice = { params, logitBias: [[1, 0.6], [1, 0.6], [2, 1]] as const };
  deepEqual(drawIds([5, 4, 3], samplerOf(twice), 1), [1]);
  const both = { ...bias(2, 100), bannedIds: new Set([2, 0, 77]) };
  deepEqual(drawIds([5, 4, 3], samplerOf(both), 2), [1, 1]);
  const hot = samplerOf({ params: { temperature: 100 }, bannedIds: new Set([1]) });
  ok(drawIds([5, 5, 5], hot, 100).every((id) => id !== 1));
});

Deno.test("log-probabilities are the model's own, whatever the request changes", () => {
  const logits = [3, 1, 2, -1];
  const exact = logSoftmax(logits);
  const params = { temperature: 0.2, topK: 1, presencePenalty: 2, repetitionPenalty: 3 };
  const request = { params, promptIds: [0], logitBias: [[1, 100]] as const, topLogprobs: 2 };
  const [drawn] = drawMany(logits, samplerOf(request), 1);
  ok(drawn?.top);
  equal(drawn.id, 1);
  ok(Math.abs((drawn.logprob ?? 0) - (exact[1] ?? 0)) < 1e-6);
  deepEqual(drawn.top.map(({ id }) => id), [0, 2]);
  for (const { id, logprob } of drawn.top) ok(Math.abs(logprob - (exact[id] ?? 0)) < 1e-6);
});

Deno.test("top_logprobs: descending, equal ones by id, no more than there are, never NaN", () => {
  const top = (logits: readonly number[], topLogprobs: number) => {
    const [drawn] = drawMany(logits, samplerOf({ params: { temperature: 0 }, topLogprobs }), 1);
    return drawn?.top?.map(({ id }) => id);
  };
  deepEqual(top([1, 3, 2, 3], 3), [1, 3, 2]);
  deepEqual(top([1, 3, 2], 20), [1, 2, 0]);
  deepEqual(top([1, NaN, 2, -Infinity], 20), [2, 0]);
  deepEqual(top([1, 3], 0), []);
  const [silent] = drawMany([1, 3], samplerOf({ params: { temperature: 0 } }), 1);
  deepEqual(silent, { id: 1 });
  const [sure] = drawMany([0, 200], samplerOf({ params: { temperature: 0 }, topLogprobs: 1 }), 1);
  deepEqual(sure, { id: 1, logprob: 0, top: [{ id: 1, logprob: 0 }] });
});

Deno.test("NaN and -Infinity never win; +Infinity always does", () => {
  for (const temperature of [0, 1]) {
    for (const extra of [{}, { topP: 0.9 }, { topK: 2 }, { minP: 0.1 }]) {
      const draw = (logits: readonly number[]) =>
        new Set(drawIds(logits, samplerOf({ params: { temperature, ...extra } }), 20));
      deepEqual(draw([NaN, -5, -Infinity, NaN]), new Set([1]));
      deepEqual(draw([100, Infinity, NaN, 3]), new Set([1]));
    }
  }
});

Deno.test("A row of which nothing can be drawn costs its own request an error, no other", () => {
  const nothing = [[NaN, NaN], [-Infinity, -Infinity], [NaN, -Infinity]];
  for (const logits of nothing) {
    for (const params of [{ temperature: 0 }, { temperature: 1 }, { topP: 0.5 }, { topK: 1 }]) {
      throws(() => drawIds(logits, samplerOf({ params, topLogprobs: 2 }), 1), {
        name: "AppError",
        code: "internal",
        message: /Cannot draw token 1 of the answer: none of .* is a number, one needed/,
      });
      throws(() => drawIds(logits, samplerOf({ params }), 1), /Cannot draw token 1/);
    }
  }
  const all = samplerOf({ bannedIds: new Set([0, 1]) });
  throws(() => drawIds([1, 2], all, 1), /Cannot draw token 1/);
  using _scope = new Scope();
  const samplers = [0, 1, 2].map(() => samplerOf({ params: { temperature: 0 } }));
  const [first, second, third] = drawAll(samplers, outputOf([1, 2], [NaN, NaN], [4, 3]));
  deepEqual([first, third], [{ id: 1 }, { id: 0 }]);
  ok(second instanceof AppError);
});

Deno.test("drawRows() gives what each sampler draws by itself", () => {
  fc.assert(
    fc.property(fc.array(requestOf, { minLength: 1, maxLength: 6 }), (requests) => {
      using _scope = new Scope();
      const rows = requests.map((_, row) =>
        Array.from({ length: 300 }, (_, i) => 3 * Math.sin(i * (row + 1)))
      );
      const output = outputOf(...rows);
      const [together, alone] = [requests.map(samplerOf), requests.map(samplerOf)];
      for (let i = 0; i < 3; i++) {
        const drawn = drawAll(together, output);
        deepEqual(drawn, alone.map((sampler, row) => draw(sampler, output, row)));
      }
    }),
    { numRuns: 30 },
  );
});

Deno.test("Penalties of a long answer stay right as the window moves", () => {
  const params = {
    temperature: 1,
    repetitionPenalty: 1.5,
    repetitionContextTokens: 7,
    frequencyPenalty: 0.1,
  };
  const logits = Array.from({ length: 90 }, (_, i) => Math.cos(i));
  const request = { promptIds: [3, 4, 5], seed: 9n, sampling: resolveSampling(params) };
  const sampler = new Sampler(request);
  const generated: number[] = [];
  for (let i = 0; i < 300; i++) {
    const adjusted = adjustedLogits(logits, request, generated);
    const [id = -1] = drawIds(logits, sampler, 1);
    const share = sharesOf(adjusted, request.sampling).find((share) => share.id === id);
    const u = uniformAt(9n, i);
    ok(share && share.from - TOLERANCE <= u && u <= share.to + TOLERANCE, `draw ${i}: ${id}`);
    generated.push(id);
  }
});

Deno.test("sampleRows() refuses rows and logits that are not there", () => {
  using _scope = new Scope();
  const draw = { ...resolveSampling({}), row: 2, seed: 1n, index: 0 };
  const adjustments = new Float64Array(0);
  const draws = [{ ...draw, adjustments }];
  throws(
    () => sampleRows({ logits: fromArray([1, 2], [2, 1]) }, draws),
    /row 2 of 2 has no logits/,
  );
  throws(() => sampleRows({ logits: fromArray([1, 2]) }, draws), /float32 \[rows, width\]/);
  throws(() => sampleRows({ plan: 12_345 }, draws), /plan 12345 was freed or never existed/);
});
