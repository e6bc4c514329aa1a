import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, range, scoped } from "./support.ts";

const cube = () => mx.fromArray(range(24), [2, 3, 4]);

scoped("reshape(), flatten(), squeeze() and expandDims() keep the elements", () => {
  assert.deepEqual(cube().reshape(4, -1).shape, [4, 6]);
  assert.deepEqual(cube().flatten().shape, [24]);
  assert.deepEqual(cube().flatten(1, 2).shape, [2, 12]);
  const wide = cube().expandDims([0, 4]);
  assert.deepEqual(wide.shape, [1, 2, 3, 4, 1]);
  assert.deepEqual(wide.squeeze().shape, [2, 3, 4]);
  assert.deepEqual(wide.squeeze(0).shape, [2, 3, 4, 1]);
  close(wide, range(24));
  assert.equal(cube().reshape(24).reshape(2, 12).size, 24);
});

scoped("transpose() and swapaxes() move the elements", () => {
  const moved = cube().transpose(2, 0, 1);
  assert.deepEqual(moved.shape, [4, 2, 3]);
  const expected = range(4).flatMap((k) => range(6).map((row) => row * 4 + k));
  close(moved, expected);
  close(moved.contiguous(), expected);
  assert.deepEqual(cube().transpose().shape, [4, 3, 2]);
  assert.deepEqual(cube().swapaxes(0, 1).shape, [3, 2, 4]);
});

scoped("broadcastTo(), tile(), repeat() and pad() spread elements", () => {
  const x = mx.fromArray([1, 2], [2, 1]);
  close(x.broadcastTo(2, 3), [1, 1, 1, 2, 2, 2]);
  close(mx.tile(x, [1, 2]), [1, 1, 2, 2]);
  close(mx.repeat(x, 2, 0), [1, 1, 2, 2]);
  close(mx.pad(x, [[1, 0], [0, 1]], 9), [9, 9, 1, 9, 2, 9]);
  assert.throws(() => mx.pad(x, [[1, 0]]), /paddings for 1 axes, the array has 2/);
});

scoped("concatenate() and stack() join what split() parts", () => {
  const [a, b, c] = mx.split(cube(), 3, 1) as [mx.Tensor, mx.Tensor, mx.Tensor];
  assert.deepEqual(b.shape, [2, 1, 4]);
  close(mx.concatenate([a, b, c], 1), range(24));
  const stacked = mx.stack([a.squeeze(1), c.squeeze(1)], 1);
  assert.deepEqual(stacked.shape, [2, 2, 4]);
  const parts = mx.split(mx.arange(0, 10), [3, 7]);
  assert.deepEqual(parts.map((part) => part.size), [3, 4, 3]);
  assert.throws(() => mx.split(cube(), 5, 1), /shim_split: .*split/);
  assert.throws(() => mx.concatenate([]), /No arrays provided/);
});

scoped("more tensors than a small list holds can be joined", () => {
  const many = range(200).map((i) => mx.full([1], i));
  close(mx.concatenate(many), range(200));
});

scoped("astype() converts and view() does not", () => {
  const x = mx.fromArray([1.5, -2.5]);
  close(x.astype("int32"), [1, -2]);
  assert.equal(x.astype("bfloat16").dtype, "bfloat16");
  close(mx.fromArray([1]).view("uint32"), [0x3f800000]);
  assert.deepEqual(x.view("uint8").shape, [8]);
});

scoped("a shape that does not fit is refused in MLX's words", () => {
  assert.throws(() => cube().reshape(5, 5), {
    name: "NativeError",
    message: "Cannot run shim_reshape: [reshape] Cannot reshape array of size 24 into shape (5,5)",
  });
});
