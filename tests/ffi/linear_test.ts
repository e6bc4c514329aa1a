import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, noise, range, scoped } from "./support.ts";

/** a `[M, K]` times b `[K, N]`, row by row. */
function product(a: number[], b: number[], M: number, K: number, N: number): number[] {
  return range(M * N).map((i) => {
    const [m, n] = [Math.floor(i / N), i % N];
    return range(K).reduce(
      (sum, k) => sum + (a[m * K + k] as number) * (b[k * N + n] as number),
      0,
    );
  });
}

scoped("matmul() and addmm() agree with three loops", () => {
  const [a, b] = [noise(15), noise(20, 2)];
  const [x, y] = [mx.fromArray(a, [3, 5]), mx.fromArray(b, [5, 4])];
  const expected = product(a, b, 3, 5, 4);
  close(x.matmul(y), expected);
  const c = mx.ones([3, 4]);
  close(mx.addmm(c, x, y, { alpha: 2, beta: 3 }), expected.map((value) => 2 * value + 3));
  close(mx.matmul(x.astype("float64"), y.astype("float64")), expected, 1e-6);
});

scoped("matmul() works in batches and on transposed input", () => {
  const a = noise(24);
  const x = mx.fromArray(a, [2, 3, 4]);
  const squared = x.matmul(x.transpose(0, 2, 1));
  assert.deepEqual(squared.shape, [2, 3, 3]);
  const second = a.slice(12);
  const turned = range(12).map((i) => second[i % 3 * 4 + Math.floor(i / 3)] as number);
  close(squared.slice([1], [2]), product(second, turned, 3, 4, 3));
});

scoped("matmul() of shapes that do not fit fails in MLX's words", () => {
  assert.throws(() => mx.ones([2, 3]).matmul(mx.ones([2, 3])), {
    name: "NativeError",
    functionName: "shim_matmul",
    message: /^Cannot run shim_matmul: \[matmul\] Last dimension of first input .*[^.]$/,
  });
  assert.throws(() => mx.ones([2, 3], "int32").matmul(mx.ones([3, 2], "int32")), /inexact types/);
});

scoped("quantizedMatmul() equals the product with the dequantised matrix", () => {
  const w = mx.fromArray(noise(64 * 128), [64, 128]);
  const x = mx.fromArray(noise(3 * 128, 2), [3, 128]);
  for (const bits of [2, 3, 4, 5, 6, 8]) {
    for (const groupSize of [32, 64, 128]) {
      const quantized = mx.quantize(w, { bits, groupSize });
      const restored = mx.dequantize(quantized, { bits, groupSize });
      const step = 2 / (2 ** bits - 1);
      assert.ok(w.subtract(restored).abs().max().item() <= step * 1.1, `${bits} bits`);
      const ours = mx.quantizedMatmul(x, quantized, { bits, groupSize });
      close(ours, x.matmul(restored.transpose()).toFloat32Array(), 1e-4);
      const straight = mx.quantizedMatmul(mx.ones([1, 64]), quantized, {
        bits,
        groupSize,
        transpose: false,
      });
      close(straight, restored.sum(0).toFloat32Array(), 1e-4);
    }
  }
});

scoped("mode mxfp4 has scales and no biases", () => {
  const quantized = mx.quantize(mx.fromArray(noise(64), [1, 64]), { mode: "mxfp4" });
  assert.equal(quantized.biases, undefined);
  const restored = mx.dequantize(quantized, { mode: "mxfp4", dtype: "float32" });
  assert.equal(restored.dtype, "float32");
  close(restored, noise(64), 0.2);
});

scoped("quantisation that cannot be is refused", () => {
  assert.throws(() => mx.quantize(mx.ones([4, 33])), /divisible by the quantization group size/);
  assert.throws(() => mx.quantize(mx.ones([4, 64]), { groupSize: 0 }), /both must be positive/);
  const wrong = { weight: mx.ones([4, 64]), scales: mx.ones([4, 1]), biases: mx.ones([4, 1]) };
  assert.throws(() => mx.quantizedMatmul(mx.ones([1, 64]), wrong), /should be uint32/);
});
