import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { mean, median, percentile, percentiles } from "../../bench/statistics.ts";

const numbers = fc.array(fc.double({ min: -1e9, max: 1e9, noNaN: true }), { minLength: 1 });
const percent = fc.double({ min: 0, max: 100, noNaN: true });

Deno.test("Of nothing there is no median, percentile or mean", () => {
  deepEqual([median([]), percentile([], 90), percentiles([]), mean([])], [null, null, null, null]);
});

Deno.test("median() is the middle, or the mean of the two in the middle", () => {
  equal(median([3, 1, 2]), 2);
  equal(median([4, 1, 2, 3]), 2.5);
  equal(mean([1, 2, 6]), 3);
});

Deno.test("percentiles() agree with NumPy's linear method", () => {
  const values = [15, 20, 35, 40, 50];
  deepEqual(percentiles(values), { p50: 35, p90: 46, p99: 49.6 });
});

Deno.test("A percentile lies between the least and the most, whatever the order", () => {
  fc.assert(fc.property(numbers, percent, (values, at) => {
    const found = percentile(values, at);
    ok(found !== null && found >= Math.min(...values) && found <= Math.max(...values));
    equal(percentile(values.toReversed(), at), found);
  }));
});

Deno.test("A percentile grows with its percent", () => {
  fc.assert(fc.property(numbers, percent, percent, (values, a, b) => {
    const [low, high] = [Math.min(a, b), Math.max(a, b)].map((at) => percentile(values, at));
    ok((low ?? 0) <= (high ?? 0));
  }));
});

Deno.test("At least half of the values are not above the median, and half not below", () => {
  fc.assert(fc.property(numbers, (values) => {
    const middle = median(values) ?? NaN;
    ok(values.filter((value) => value <= middle).length * 2 >= values.length);
    ok(values.filter((value) => value >= middle).length * 2 >= values.length);
  }));
});

Deno.test("Percentiles leave their input as it is", () => {
  const values = Object.freeze([3, 1, 2]);
  equal(percentile(values, 100), 3);
  deepEqual(values, [3, 1, 2]);
});
