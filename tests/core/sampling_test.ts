import assert from "node:assert/strict";
import { DEFAULT_SAMPLING, resolveSampling, SamplingParams } from "../../core/sampling.ts";

const off = {
  minP: 0,
  repetitionPenalty: 1,
  repetitionContextTokens: 20,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

Deno.test("nobody says anything: temperature 0.7, all else off", () => {
  assert.deepEqual(resolveSampling(), { temperature: 0.7, topP: 1, topK: 0, ...off });
  assert.deepEqual(resolveSampling(undefined, {}), DEFAULT_SAMPLING);
});

Deno.test("each field comes from the first layer that names it, zero included", () => {
  const request = { temperature: 0 };
  const instance = { temperature: 1, topK: 40 };
  const card = { topK: 20, topP: 0.9 };
  const resolved = resolveSampling(request, undefined, instance, card);
  assert.deepEqual(resolved, { temperature: 0, topP: 0.9, topK: 40, ...off });
});

Deno.test("values out of range are refused", () => {
  const wrong = [
    { temperature: -1 },
    { temperature: 101 },
    { topP: 0 },
    { topP: 1.1 },
    { topK: -1 },
    { topK: 1.5 },
    { minP: -0.1 },
    { minP: 1.1 },
    { repetitionPenalty: 0 },
    { repetitionContextTokens: -1 },
    { presencePenalty: 2.1 },
    { frequencyPenalty: -2.1 },
    { temperature: NaN },
  ];
  for (const fields of wrong) {
    assert.equal(SamplingParams.safeParse(fields).success, false, JSON.stringify(fields));
  }
});
