import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, noise, scoped } from "./support.ts";

const POSITIVE = noise(12).map((x) => Math.abs(x) + 0.1);
const SIGNED = noise(12, 2).map((x) => x * 3);

/** Abramowitz and Stegun 7.1.5: the series of erf. */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 60; n++) {
    term *= -x * x / n;
    sum += term / (2 * n + 1);
  }
  return 2 / Math.sqrt(Math.PI) * sum;
}

const UNARY: [name: string, ours: (x: mx.Tensor) => mx.Tensor, oracle: (x: number) => number][] = [
  ["negative", mx.negative, (x) => -x],
  ["abs", mx.abs, Math.abs],
  ["square", mx.square, (x) => x * x],
  ["exp", mx.exp, Math.exp],
  ["sin", mx.sin, Math.sin],
  ["cos", mx.cos, Math.cos],
  ["tanh", mx.tanh, Math.tanh],
  ["sigmoid", mx.sigmoid, (x) => 1 / (1 + Math.exp(-x))],
  ["erf", mx.erf, erf],
  ["floor", mx.floor, Math.floor],
  ["ceil", mx.ceil, Math.ceil],
  ["reciprocal", mx.reciprocal, (x) => 1 / x],
];

scoped("functions of one number agree with Math", () => {
  for (const [name, ours, oracle] of UNARY) {
    try {
      close(ours(mx.fromArray(SIGNED)), Float32Array.from(SIGNED).map(oracle));
    } catch (cause) {
      throw new Error(name, { cause });
    }
  }
  const x = mx.fromArray(POSITIVE);
  close(mx.sqrt(x), POSITIVE.map(Math.sqrt));
  close(mx.rsqrt(x), POSITIVE.map((each) => 1 / Math.sqrt(each)));
  close(mx.log(x), POSITIVE.map(Math.log));
  close(mx.log1p(x), POSITIVE.map(Math.log1p));
});

scoped("round() takes halves to the even neighbour", () => {
  close(mx.round(mx.fromArray([0.5, 1.5, 2.5, -0.5, 1.2])), [0, 2, 2, -0, 1]);
});

type Binary = (a: mx.Operand, b: mx.Operand) => mx.Tensor;
const BINARY: [name: string, ours: Binary, oracle: (a: number, b: number) => number][] = [
  ["add", mx.add, (a, b) => a + b],
  ["subtract", mx.subtract, (a, b) => a - b],
  ["multiply", mx.multiply, (a, b) => a * b],
  ["divide", mx.divide, (a, b) => a / b],
  ["floorDivide", mx.floorDivide, (a, b) => Math.floor(a / b)],
  ["remainder", mx.remainder, (a, b) => a - b * Math.floor(a / b)],
  ["power", mx.power, (a, b) => a ** b],
  ["maximum", mx.maximum, Math.max],
  ["minimum", mx.minimum, Math.min],
  ["equal", mx.equal, (a, b) => Number(a === b)],
  ["notEqual", mx.notEqual, (a, b) => Number(a !== b)],
  ["less", mx.less, (a, b) => Number(a < b)],
  ["lessEqual", mx.lessEqual, (a, b) => Number(a <= b)],
  ["greater", mx.greater, (a, b) => Number(a > b)],
  ["greaterEqual", mx.greaterEqual, (a, b) => Number(a >= b)],
];

scoped(
  "functions of two tensors, or a tensor and a number on either side, agree with plain ones",
  () => {
    const left = [1, 2, 3, 4, 5, 6];
    const right = [3, 2, 1, 4, 7, 2];
    const [a, b] = [mx.fromArray(left), mx.fromArray(right)];
    for (const [name, ours, oracle] of BINARY) {
      try {
        close(ours(a, b), left.map((x, i) => oracle(x, right[i] as number)), 1e-4);
        close(ours(a, 3), left.map((x) => oracle(x, 3)), 1e-4);
        close(ours(3, b), right.map((x) => oracle(3, x)), 1e-4);
      } catch (cause) {
        throw new Error(name, { cause });
      }
    }
  },
);

scoped("shapes broadcast", () => {
  const sum = mx.add(mx.fromArray([1, 2, 3]), mx.fromArray([10, 20], [2, 1]));
  assert.deepEqual(sum.shape, [2, 3]);
  close(sum, [11, 12, 13, 21, 22, 23]);
});

scoped(
  "a number takes the type of the tensor beside it, unless that would lose its fraction",
  () => {
    assert.equal(mx.ones([1], "bfloat16").add(0.5).dtype, "bfloat16");
    assert.equal(mx.ones([1], "uint8").multiply(2).dtype, "uint8");
    assert.equal(mx.ones([1], "int32").multiply(0.5).dtype, "float32");
    assert.equal(mx.ones([1], "bool").add(1).dtype, "int32");
    assert.equal(mx.ones([1], "int32").add(Infinity).dtype, "float32");
  },
);

scoped("logic and where() choose by condition", () => {
  const x = mx.fromArray([0, 1, 2, 0]);
  const y = mx.fromArray([1, 1, 0, 0]);
  close(mx.logicalAnd(x, y), [0, 1, 0, 0]);
  close(mx.logicalOr(x, y), [1, 1, 1, 0]);
  close(mx.logicalNot(x), [1, 0, 0, 1]);
  close(mx.where(x.greater(0), x, -1), [-1, 1, 2, -1]);
  close(mx.where(x.greater(0), 5, y), [1, 5, 5, 0]);
  close(mx.where(x.greater(0), 1, 0.5), [0.5, 1, 1, 0.5]);
});

scoped("two numbers without a tensor are refused", () => {
  assert.throws(() => mx.add(1, 2), /Cannot run shim_add: no array was given/);
});
