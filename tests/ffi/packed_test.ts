import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, noise, scoped } from "./support.ts";

/** A product by MLX, the oracle, and by the packed matrix. */
function both(x: mx.Tensor, parts: mx.Quantized, options: mx.PackOptions) {
  using packed = mx.packQuantized(parts, options);
  const ours = mx.packedLinear(x, packed).eval();
  const theirs = mx.quantizedMatmul(x, parts, options);
  return { ours, theirs: theirs.toNumbers(), packed };
}

for (const bits of [2, 3, 4, 5, 6, 8]) {
  for (const groupSize of [32, 64, 128]) {
    scoped(`packedLinear() agrees with MLX for ${bits} bits in groups of ${groupSize}`, () => {
      const [N, K] = [37, 384];
      const parts = mx.quantize(mx.fromArray(noise(N * K), [N, K]), { groupSize, bits });
      for (const rows of [1, 3, 17]) {
        const x = mx.fromArray(noise(rows * K, 7), [rows, K]);
        const { ours, theirs } = both(x, parts, { groupSize, bits });
        assert.deepEqual(ours.shape, [rows, N]);
        close(ours, theirs, 5e-4); // Of sums of 384 terms, some 10 in size.
      }
    });
  }
}

for (const dtype of ["float16", "bfloat16"] as const) {
  scoped(`packedLinear() takes scales of ${dtype}`, () => {
    const plain = mx.quantize(mx.fromArray(noise(16 * 64), [16, 64]), { groupSize: 32, bits: 4 });
    const parts = {
      weight: plain.weight,
      scales: plain.scales.astype(dtype),
      biases: plain.biases?.astype(dtype),
    };
    const x = mx.fromArray(noise(64, 3), [1, 64]);
    using packed = mx.packQuantized(parts, { groupSize: 32, bits: 4 });
    const wide = {
      weight: plain.weight,
      scales: parts.scales.astype("float32"),
      biases: parts.biases?.astype("float32"),
    };
    const theirs = mx.quantizedMatmul(x, wide, { groupSize: 32, bits: 4 });
    close(mx.packedLinear(x, packed), theirs.toNumbers(), 3e-4);
  });

  scoped(`packedLinear() and packedRows() take a matrix of ${dtype}`, () => {
    const w = mx.fromArray(noise(20 * 30), [20, 30]).astype(dtype);
    using packed = mx.packDense(w);
    const x = mx.fromArray(noise(2 * 30, 3), [2, 30]);
    const wide = w.astype("float32");
    close(mx.packedLinear(x, packed), x.matmul(wide.transpose()).toNumbers());
    const ids = mx.fromArray(Int32Array.of(19, 0, 7));
    close(mx.packedRows(ids, packed), wide.take(ids, 0).toNumbers(), 0);
  });
}

scoped("packedLinear() adds a bias, and a row is the same among others as alone", () => {
  const parts = mx.quantize(mx.fromArray(noise(48 * 64), [48, 64]), { groupSize: 64, bits: 4 });
  using packed = mx.packQuantized(parts, { groupSize: 64, bits: 4 });
  const x = mx.fromArray(noise(40 * 64, 5), [40, 64]);
  const bias = mx.fromArray(noise(48, 9));
  const all = mx.packedLinear(x, packed, bias).toFloat32Array();
  const plain = mx.packedLinear(x, packed).add(bias).toFloat32Array();
  close(all, plain, 1e-6);
  for (const row of [0, 13, 39]) {
    const alone = mx.packedLinear(x.slice([row, 0], [row + 1, 64]), packed, bias).toFloat32Array();
    assert.deepEqual([...alone], [...all.subarray(row * 48, (row + 1) * 48)]);
  }
});

scoped("packedRows() gives what MLX dequantises", () => {
  const parts = mx.quantize(mx.fromArray(noise(50 * 64), [50, 64]), { groupSize: 32, bits: 8 });
  using packed = mx.packQuantized(parts, { groupSize: 32, bits: 8 });
  const ids = mx.fromArray(Int32Array.of(49, 0, 17));
  const rows = mx.dequantize(parts, { groupSize: 32, bits: 8 }).take(ids, 0);
  close(mx.packedRows(ids, packed), rows.toNumbers(), 1e-6);
});

scoped("A matrix that does not fit is refused in words", () => {
  const w = mx.fromArray(noise(16 * 64), [16, 64]);
  const parts = mx.quantize(w, { groupSize: 32, bits: 4 });
  const options = { groupSize: 32, bits: 4 };
  using packed = mx.packQuantized(parts, options);
  const narrow = mx.fromArray(noise(32), [1, 32]);
  assert.throws(() => mx.packedLinear(narrow, packed), /width 32 for a matrix of 64 inputs/);
  const ids = mx.fromArray(Float32Array.of(1));
  assert.throws(() => mx.packedRows(ids, packed), /must be int32/);
  assert.throws(() => mx.packQuantized({ ...parts, scales: w }, options), /scales of a matrix/);
  assert.throws(() => mx.packDense(w.reshape(-1)), /two dimensions/);
  const gone = mx.packDense(w);
  gone[Symbol.dispose]();
  assert.throws(() => gone[Symbol.dispose](), /was freed or never existed/);
});

scoped("Packed matrices count as active memory until they are freed", () => {
  const w = mx.fromArray(noise(16 * 64), [16, 64]).eval();
  const before = mx.memoryCounters().activeBytes;
  const packed = mx.packDense(w);
  assert.equal(mx.memoryCounters().activeBytes - before, 16 * 64 * 4);
  packed[Symbol.dispose]();
  assert.equal(mx.memoryCounters().activeBytes, before);
});
