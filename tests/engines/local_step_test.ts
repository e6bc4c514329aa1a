import { deepEqual, equal, throws } from "node:assert/strict";
import { GREEDY } from "../../engines/decoder.ts";
import { doneStep, drawAll, drawRows } from "../../engines/local_step.ts";
import type { RowDraw } from "../../ffi/mod.ts";

const HOT = { ...GREEDY, temperature: 1 };

/** Rows whose likeliest token is their number; what is asked of them is written down. */
function source(likeliest: readonly number[]) {
  const sampled: number[][] = [];
  return {
    sampled,
    best: (row: number) => likeliest[row] ?? -1,
    sample: (draws: readonly RowDraw[]) => {
      sampled.push(draws.map(({ row }) => row));
      return draws.map(({ row }) => ({ id: 100 + row }));
    },
  };
}

Deno.test("drawRows() samples in one call what is not simply the likeliest", () => {
  const rows = source([7, 8, 0, 9]);
  const draws = [
    { ...GREEDY, row: 0 },
    { ...HOT, row: 1 },
    { ...GREEDY, row: 2 }, // Of none, or the first token: a closer look tells.
    { ...GREEDY, row: 3, topLogprobs: 0 },
  ];
  deepEqual(drawRows(draws, rows).map(({ id }) => id), [7, 101, 102, 103]);
  deepEqual(rows.sampled, [[1, 2, 3]]);
});

Deno.test("drawAll() draws after the last row of each sequence that asks for it", () => {
  const rows = source([1, 2, 3, 4]);
  const drawn = drawAll([
    { logitsCount: 2, draw: GREEDY },
    { logitsCount: 0 },
    { logitsCount: 1 },
    { logitsCount: 1, draw: GREEDY },
  ], rows);
  deepEqual([drawn(0), drawn(3)], [{ id: 2 }, { id: 4 }]);
  throws(() => drawn(2), /those that wanted it/);
  deepEqual(rows.sampled, []);
  throws(() => drawAll([{ logitsCount: 0, draw: GREEDY }], rows), /where there are logits/);
});

Deno.test("doneStep() waits for nothing", () => {
  const output = { drawn: () => ({ id: 1 }), logits: () => throws(() => {}) as never };
  const step = doneStep(output);
  equal(step.isDone && step.wait(0), true);
  equal(step.collect(), output);
});
