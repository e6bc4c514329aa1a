import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, scoped } from "./support.ts";

const VALUES = [3, 1, 2, 6, 5, 4]; // Two rows of three.
const matrix = () => mx.fromArray(VALUES, [2, 3]);

scoped("sums, means, products and extremes agree with plain ones, by axis and over all", () => {
  close(mx.sum(matrix()), [21]);
  close(mx.sum(matrix(), 0), [9, 6, 6]);
  close(mx.sum(matrix(), [0, 1]), [21]);
  close(mx.mean(matrix(), 1), [2, 5]);
  close(mx.prod(matrix(), -1), [6, 120]);
  close(mx.max(matrix(), 0), [6, 5, 4]);
  close(mx.min(matrix(), 1), [1, 4]);
});

scoped("keepdims leaves the reduced axes with length 1", () => {
  assert.deepEqual(mx.sum(matrix(), 1, { keepdims: true }).shape, [2, 1]);
  assert.deepEqual(mx.sum(matrix(), undefined, { keepdims: true }).shape, [1, 1]);
  assert.deepEqual(mx.sum(matrix()).shape, []);
});

scoped("argmax() and argmin() give uint32 indices", () => {
  const best = mx.argmax(matrix(), 1);
  assert.equal(best.dtype, "uint32");
  close(best, [0, 0]);
  close(mx.argmin(matrix(), -1), [1, 2]);
  close(mx.argmax(matrix()), [3]);
});

scoped("all() and any() look for zeros", () => {
  const x = mx.fromArray([1, 0, 1, 1], [2, 2]);
  close(mx.all(x, 1), [0, 1]);
  close(mx.any(x, 1), [1, 1]);
  close(mx.all(x), [0]);
});

scoped("logsumexp() and softmax() do not overflow", () => {
  const x = mx.fromArray([1000, 1001, 1002]);
  const sum = 1 + Math.exp(-1) + Math.exp(-2);
  close(mx.logsumexp(x), [1002 + Math.log(sum)]);
  close(mx.softmax(x), [Math.exp(-2) / sum, Math.exp(-1) / sum, 1 / sum]);
  close(mx.softmax(x.astype("bfloat16"), -1, { precise: true }).sum(), [1], 1e-2);
  close(mx.softmax(matrix(), [0, 1]).sum(), [1]);
});

scoped("cumsum() runs in both directions, with and without its own element", () => {
  close(mx.cumsum(matrix(), 1), [3, 4, 6, 6, 11, 15]);
  close(mx.cumsum(matrix(), 0), [3, 1, 2, 9, 6, 6]);
  close(mx.cumsum(matrix(), 1, { reverse: true }), [6, 3, 2, 15, 9, 4]);
  close(mx.cumsum(matrix(), 1, { inclusive: false }), [0, 3, 4, 0, 6, 11]);
});

scoped("sort() and argsort() order an axis", () => {
  close(mx.sort(matrix()), [1, 2, 3, 4, 5, 6]);
  close(mx.sort(matrix(), 0), [3, 1, 2, 6, 5, 4]);
  close(mx.argsort(matrix()), [1, 2, 0, 2, 1, 0]);
});

scoped("partition(), argpartition() and topk() separate the greatest", () => {
  const x = mx.fromArray([5, 9, 1, 7, 3]);
  const parted = mx.partition(x, 3).toNumbers();
  assert.equal(parted[3], 7);
  assert.deepEqual(parted.slice(0, 3).sort(), [1, 3, 5]);
  const indices = mx.argpartition(x, 3).toNumbers();
  assert.deepEqual(indices.slice(3), [3, 1]);
  assert.deepEqual(mx.topk(x, 2).toNumbers().sort(), [7, 9]);
});

scoped("an axis that is not there is refused in MLX's words", () => {
  assert.throws(() => matrix().sum(7), {
    name: "NativeError",
    message: "Cannot run shim_sum: Invalid axis 7 for array with 2 dimensions",
  });
});
