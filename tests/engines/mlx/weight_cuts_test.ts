import { deepEqual, equal } from "node:assert/strict";
import { cutShape, shareOf } from "../../../engines/mlx/weight_cuts.ts";

Deno.test("shareOf() gives every index to one rank, in whole units", () => {
  const shares = (count: number, size: number, unit: number) =>
    Array.from({ length: size }, (_, rank) => {
      const { from, to } = shareOf(count, { rank, size, unit });
      return [from, to];
    });
  deepEqual(shares(160, 4, 32), [[0, 32], [32, 64], [64, 96], [96, 160]]);
  deepEqual(shares(10, 3, 1), [[0, 3], [3, 6], [6, 10]]);
  deepEqual(shares(32, 2, 32), [[0, 0], [0, 32]]); // Too few for all: the caller refuses it.
});

Deno.test("cutShape() gives the shape that is left of a matrix", () => {
  const shape = { outputs: 8, inputs: 6 };
  equal(cutShape(shape, {}).outputs, 8);
  deepEqual(cutShape(shape, { inputs: { from: 2, to: 6 } }), { outputs: 8, inputs: 4 });
  deepEqual(cutShape(shape, { outputs: { from: 2, to: 3 } }), { outputs: 1, inputs: 6 });
});
