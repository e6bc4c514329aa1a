import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, range, scoped } from "./support.ts";

const cube = () => mx.fromArray(range(24), [2, 3, 4]);
const at = (i: number, j: number, k: number) => (i * 3 + j) * 4 + k;

scoped("slice() takes a box, with strides and from the end", () => {
  const box = mx.slice(cube(), [0, 1, 0], [2, 3, 4], [1, 1, 2]);
  assert.deepEqual(box.shape, [2, 2, 2]);
  const expected = [0, 1].flatMap((i) => [1, 2].flatMap((j) => [0, 2].map((k) => at(i, j, k))));
  close(box, expected);
  close(mx.slice(cube(), [-1, -1], [2, 3]), range(4).map((k) => at(1, 2, k)));
  close(mx.slice(mx.fromArray([1, 2, 3]), [2], [-4], [-1]), [3, 2, 1]);
});

scoped("slice() refuses a stride of 0 and more numbers than axes", () => {
  assert.throws(() => mx.slice(cube(), [0], [1], [0]), /shim_slice: a stride is 0/);
  assert.throws(() => mx.slice(mx.ones([2]), [0, 0], [1, 1]), RangeError);
});

scoped("sliceUpdate() replaces a box and leaves the original alone", () => {
  const x = mx.zeros([2, 3]);
  const updated = mx.sliceUpdate(x, mx.fromArray([7, 8], [2, 1]), [0, 1], [2, 2]);
  close(updated, [0, 7, 0, 0, 8, 0]);
  close(x, [0, 0, 0, 0, 0, 0]);
  close(mx.sliceUpdate(x, mx.ones([2, 2]), [0, 0], [2, 3], [1, 2]), [1, 0, 1, 1, 0, 1]);
});

scoped("take() gathers rows, columns and single entries", () => {
  const table = mx.fromArray(range(12), [4, 3]);
  close(mx.take(table, mx.fromArray([2, 0], [2], "int32"), 0), [6, 7, 8, 0, 1, 2]);
  close(mx.take(table, [-1], 0), [9, 10, 11]);
  const column = mx.take(table, 1, 1);
  assert.deepEqual(column.shape, [4]);
  close(column, [1, 4, 7, 10]);
  close(mx.take(table, [5, 11]), [5, 11]);
  const rows = mx.take(table, mx.fromArray([0, 1, 2, 3], [2, 2], "uint32"), 0);
  assert.deepEqual(rows.shape, [2, 2, 3]);
});

scoped("take() checks the numbers it is given", () => {
  assert.throws(() => mx.take(mx.ones([3]), [3]), /Cannot take entry 3 of 3/);
  assert.throws(() => mx.take(mx.ones([3]), [0], 4), /axis 4/);
});

scoped("takeAlongAxis() and putAlongAxis() follow an index per entry", () => {
  const x = mx.fromArray([3, 1, 2, 6, 5, 4], [2, 3]);
  const order = mx.argsort(x, 1);
  close(mx.takeAlongAxis(x, order, 1), [1, 2, 3, 4, 5, 6]);
  const spread = mx.putAlongAxis(mx.zeros([2, 3]), order, mx.fromArray(range(6), [2, 3]), 1);
  close(spread, [2, 0, 1, 5, 4, 3]);
});
