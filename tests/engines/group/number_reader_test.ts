import { deepEqual, throws } from "node:assert/strict";
import { Malformed, NumberReader } from "../../../engines/group/number_reader.ts";

const reader = (...numbers: number[]) => new NumberReader(Float64Array.from(numbers));

Deno.test("NumberReader reads numbers, counts and lists in order", () => {
  const from = reader(1.5, 3, -1, 7, 2, 0, 1, -Infinity, 0.25);
  deepEqual([from.number(), from.count(3), from.countOr(-1), from.countOr(-1)], [1.5, 3, -1, 7]);
  deepEqual(from.times(from.count(), () => from.count(1)), [0, 1]);
  deepEqual(from.numbers(2), Float64Array.of(-Infinity, 0.25));
  from.end();
});

Deno.test("NumberReader refuses what is no count, and lists of more than there is", () => {
  const refused = (numbers: number[], read: (from: NumberReader) => void, found: RegExp) =>
    throws(() => read(reader(...numbers)), (error) => {
      return error instanceof Malformed && found.test(error.message);
    });
  refused([], (from) => from.number(), /^0 numbers$/);
  for (const bad of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
    refused([bad], (from) => from.count(), /as number 1$/);
  }
  refused([4], (from) => from.count(3), /^4 as number 1$/);
  refused([4], (from) => from.countOr(-1, 3), /^4 as number 1$/);
  refused([1], (from) => from.times(2, () => from.number()), /1 numbers where 2 were named/);
  refused([1], (from) => from.numbers(2), /1 numbers where 2 were named/);
  refused([1], (from) => from.end(), /1 numbers too many/);
});
