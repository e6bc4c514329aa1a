import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, scoped } from "./support.ts";

const { random } = mx;

scoped("equal keys give equal numbers, other keys others", () => {
  const draw = (seed: number | bigint) =>
    random.normal([64], { key: random.key(seed) }).toNumbers();
  assert.deepEqual(draw(7), draw(7));
  assert.notDeepEqual(draw(7), draw(8));
  assert.notDeepEqual(draw(7n), draw(7n + 2n ** 32n));
});

scoped("all 64 bits of a seed are in its key", () => {
  close(random.key(0xfedc_ba98_7654_3210n), [0xfedc_ba98, 0x7654_3210], 0);
  close(random.key(-1), [0xffff_ffff, 0xffff_ffff], 0);
});

scoped("the numbers of a key are those that MLX gives everywhere", () => {
  // Recorded from mlx 0.32.4 in Python: mx.random.split(mx.random.key(42), 2).
  close(random.split(random.key(42)), [2465931498, 3679230171, 255383827, 267815257], 0);
  assert.deepEqual(random.split(random.key(42), 5).shape, [5, 2]);
});

scoped("uniform() and normal() have the mean and spread asked for", () => {
  const key = random.key(3);
  const even = random.uniform([10_000], { key, low: 2, high: 4 });
  assert.ok(even.min().item() >= 2 && even.max().item() < 4);
  close(even.mean(), [3], 0.02);
  const bell = random.normal([10_000], { key, mean: 5, deviation: 2 });
  close(bell.mean(), [5], 0.02);
  close(bell.subtract(5).square().mean().sqrt(), [2], 0.02);
  assert.equal(random.normal([2], { key, dtype: "bfloat16" }).dtype, "bfloat16");
});

scoped("bernoulli() takes one chance or one for each element", () => {
  const key = random.key(4);
  close(random.bernoulli(0.3, { key, shape: [10_000] }).astype("float32").mean(), [0.3], 0.05);
  close(random.bernoulli(mx.fromArray([0, 1, 0]), { key }), [0, 1, 0]);
});

scoped("categorical() draws in proportion to softmax of the logits", () => {
  const logits = mx.fromArray([Math.log(1), Math.log(3), -Infinity]).broadcastTo(8000, 3);
  const drawn = random.categorical(logits, { key: random.key(5) });
  assert.deepEqual([drawn.shape, drawn.dtype], [[8000], "uint32"]);
  close(drawn.equal(1).astype("float32").mean(), [0.75], 0.03);
  close(drawn.equal(2).astype("float32").sum(), [0]);
});

scoped("a key of the wrong type is refused in MLX's words", () => {
  assert.throws(() => random.normal([2], { key: mx.ones([2]) }), /Expected key type uint32/);
});
