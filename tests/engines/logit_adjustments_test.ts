import { deepEqual } from "node:assert/strict";
import fc from "fast-check";
import { resolveSampling, type SamplingParams } from "../../core/sampling.ts";
import { LogitAdjustments } from "../../engines/logit_adjustments.ts";
import { ADJUSTMENT_NUMBERS } from "../../ffi/mod.ts";

/** What is there for each token: whether it is repeated, and by how much its logit is shifted. */
function told({ numbers }: LogitAdjustments): Map<number, [isRepeated: number, shift: number]> {
  const all = new Map<number, [number, number]>();
  for (let at = 0; at < numbers.length; at += ADJUSTMENT_NUMBERS) {
    const [id = NaN, isRepeated = NaN, shift = NaN] = numbers.subarray(at);
    deepEqual(all.has(id), false, "each token once");
    all.set(id, [isRepeated, shift]);
  }
  return all;
}

function adjustments(
  params: SamplingParams,
  rest: Partial<ConstructorParameters<typeof LogitAdjustments>[0]> = {},
): LogitAdjustments {
  return new LogitAdjustments({ sampling: resolveSampling(params), promptIds: [], ...rest });
}

Deno.test("LogitAdjustments are none where nothing is asked for, however long the answer", () => {
  const none = adjustments({}, { promptIds: [1, 2, 3] });
  for (let id = 0; id < 100; id++) none.note(id);
  deepEqual(told(none), new Map());
});

Deno.test("LogitAdjustments add the biases of a token; a ban is stronger than each", () => {
  const biased = adjustments({}, {
    logitBias: [[5, 1.5], [7, 100], [5, -0.5]],
    bannedIds: new Set([7, 9]),
  });
  deepEqual(told(biased), new Map([[5, [0, 1]], [7, [0, -Infinity]], [9, [0, -Infinity]]]));
});

Deno.test("LogitAdjustments know a token that has left the window as unrepeated", () => {
  const repeating = adjustments(
    { repetitionPenalty: 1.2, repetitionContextTokens: 2 },
    { promptIds: [1, 2, 3] },
  );
  deepEqual(told(repeating), new Map([[2, [1, 0]], [3, [1, 0]]]));
  repeating.note(3);
  deepEqual(told(repeating), new Map([[2, [0, 0]], [3, [1, 0]]]));
  repeating.note(4);
  repeating.note(4);
  deepEqual(told(repeating), new Map([[2, [0, 0]], [3, [0, 0]], [4, [1, 0]]]));
});

Deno.test("LogitAdjustments are what counting from the start gives, for more tokens than at first", () => {
  const ids = fc.array(fc.nat(300), { maxLength: 200 });
  fc.assert(
    fc.property(ids, ids, fc.nat(40), (promptIds, answer, repetitionContextTokens) => {
      const params = {
        ...{ repetitionPenalty: 1.5, repetitionContextTokens },
        ...{ presencePenalty: 0.5, frequencyPenalty: 0.25 },
      };
      const kept = adjustments(params, { promptIds, logitBias: [[3, 2]] });
      for (const id of answer) kept.note(id);
      const all = [...promptIds, ...answer];
      const window = new Set(
        repetitionContextTokens > 0 ? all.slice(-repetitionContextTokens) : [],
      );
      const expected = new Map<number, [number, number]>();
      for (const id of new Set([3, ...all])) {
        const times = answer.filter((one) => one === id).length;
        const shift = (id === 3 ? 2 : 0) - (times > 0 ? 0.5 + 0.25 * times : 0);
        if (window.has(id) || shift !== 0) expected.set(id, [window.has(id) ? 1 : 0, shift]);
      }
      // What is back at nothing may stay.
      const changed = [...told(kept)].filter(([, [isRepeated, shift]]) => isRepeated || shift);
      deepEqual(new Map(changed), expected);
    }),
  );
});
