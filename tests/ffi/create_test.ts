import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, scoped } from "./support.ts";

scoped("constants and ranges have their shape and type", () => {
  const zeros = mx.zeros([2, 3], "int8");
  assert.deepEqual([zeros.shape, zeros.dtype, zeros.size, zeros.nbytes], [[2, 3], "int8", 6, 6]);
  close(mx.ones([2]), [1, 1]);
  close(mx.full([2], 2.5, "float16"), [2.5, 2.5]);
  close(mx.arange(1, 8, 3), [1, 4, 7]);
  close(mx.arange(0, 1, 0.25, "float32"), [0, 0.25, 0.5, 0.75]);
  assert.deepEqual(mx.scalar(7).shape, []);
});

scoped("every element type makes the round trip through its typed array", () => {
  const arrays = [
    Uint8Array.of(0, 255),
    Uint16Array.of(0, 65535),
    Uint32Array.of(0, 4294967295),
    BigUint64Array.of(0n, 2n ** 64n - 1n),
    Int8Array.of(-128, 127),
    Int16Array.of(-32768, 32767),
    Int32Array.of(-2147483648, 2147483647),
    BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n),
    Float32Array.of(-1.5, 3e38),
    Float64Array.of(Math.PI, 1e300),
  ];
  for (const array of arrays) assert.deepEqual(mx.fromArray(array).toArray(), array);
});

scoped("plain numbers arrive exactly in the type asked for", () => {
  for (const dtype of mx.DTYPES) {
    const tensor = mx.fromArray([1, 0, 1], [3], dtype);
    assert.equal(tensor.dtype, dtype);
    assert.deepEqual(tensor.toNumbers(), [1, 0, 1]);
  }
  assert.deepEqual(mx.fromArray([16777217], [1], "int32").toNumbers(), [16777217]);
});

scoped("half types are read as float32", () => {
  const x = mx.fromArray([0.1, 65504], [2], "float16").toArray();
  assert.ok(x instanceof Float32Array);
  close(x, [0.0999755859375, 65504], 0);
  close(mx.fromArray([1.00390625, 3e38], [2], "bfloat16").toFloat32Array(), [1, 3e38], 3e-3);
});

scoped("fromBytes() takes raw elements, from the middle of a buffer too", () => {
  const bytes = new Uint8Array([9, 0x80, 0x3f, 0x00, 0x40, 9]).subarray(1, 5);
  close(mx.fromBytes(bytes, [2], "bfloat16"), [1, 2]);
});

scoped("data that do not fill the shape are refused with both sizes", () => {
  assert.throws(
    () => mx.fromArray([1, 2, 3], [2, 2]),
    /Cannot run shim_from_bytes: the shape needs 16 bytes, 12 given/,
  );
});

scoped("shapes that cannot be are refused", () => {
  assert.throws(() => mx.zeros([-3]), /shim_zeros: length -3 of an axis is negative/);
  assert.throws(() => mx.ones([2 ** 30, 2 ** 30]), /is over the memory limit/);
  assert.throws(() => mx.zeros(Array(65).fill(1)), RangeError);
  assert.throws(() => mx.arange(0, 5, 0), /step must be nonzero/);
});

scoped("empty tensors work", () => {
  const empty = mx.fromArray([], [0, 4]);
  assert.deepEqual([empty.size, empty.toNumbers()], [0, []]);
  close(empty.sum(), [0]);
});
