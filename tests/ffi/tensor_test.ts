import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import { close, scoped } from "./support.ts";

scoped("methods chain as the functions do", () => {
  const x = mx.fromArray([1, 2, 3, 4], [2, 2]);
  close(x.add(1).multiply(x).subtract(2).divide(2), [0, 2, 5, 9]);
  close(x.negative().abs().sqrt().square(), [1, 2, 3, 4]);
  close(x.power(2).remainder(3), [1, 1, 0, 1]);
  close(x.maximum(2).minimum(3), [2, 2, 3, 3]);
  close(x.matmul(x.transpose(1, 0)).sum(0).reshape(2, 1).flatten(), [16, 36]);
  close(x.exp().log().tanh().sigmoid().rsqrt().min(), [
    1 / Math.sqrt(1 / (1 + Math.exp(-Math.tanh(4)))),
  ]);
  close(x.softmax().sum(-1), [1, 1]);
  close(x.logsumexp(1).exp(), [Math.exp(1) + Math.exp(2), Math.exp(3) + Math.exp(4)], 1e-4);
  assert.deepEqual(x.greaterEqual(2).equal(x.less(2)).toNumbers(), [0, 0, 0, 0]);
  assert.deepEqual(x.argmax().item(), 3);
  assert.equal(x.split(2).length, 2);
});

scoped("item() reads one element of any type", () => {
  assert.equal(mx.fromArray([2.5], [1, 1]).item(), 2.5);
  assert.equal(mx.scalar(1, "bool").item(), 1);
  assert.equal(mx.fromArray(Uint32Array.of(4294967295)).item(), 4294967295);
  assert.equal(mx.fromArray(BigInt64Array.of(-9007199254740991n)).item(), -9007199254740991);
  assert.equal(mx.fromArray(Float64Array.of(Math.PI)).item(), Math.PI);
  assert.throws(() => mx.ones([2]).item(), /an array of one element is needed, this one has 2/);
});

scoped("eval(), evalAll() and asyncEval() compute now", () => {
  const x = mx.ones([4]).add(1);
  assert.equal(x.eval(), x);
  const [y, z] = [x.add(1), x.add(2)];
  mx.evalAll([y, z]);
  mx.asyncEval([y.add(z)]);
  close(y.add(z), [7, 7, 7, 7]);
});

scoped("a freed tensor is refused by name, whatever is done with it", () => {
  const x = mx.ones([2]);
  const y = mx.ones([2]);
  x[Symbol.dispose]();
  x[Symbol.dispose](); // Once more does no harm.
  const refused = /array handle \d+ was freed or never existed/;
  assert.throws(() => x.add(y), refused);
  assert.throws(() => mx.concatenate([y, x]), refused);
  assert.throws(() => x.shape, refused);
  assert.throws(() => x.toArray(), refused);
  assert.throws(() => x.keep(), refused);
  assert.throws(() => mx.evalAll([y, x]), refused);
});

scoped("a handle that was never given out is refused", () => {
  for (const handle of [-1, 1, 0x7fff_ffff, 123_456_789]) {
    assert.throws(() => new mx.Tensor(handle).eval(), /freed or never existed/);
  }
});

scoped("a slot that is used again does not answer to its old handle", () => {
  const old = mx.ones([1]);
  old[Symbol.dispose]();
  const current = mx.zeros([1]);
  assert.notEqual(current.handle, old.handle);
  assert.throws(() => old.item(), /was freed/);
  assert.equal(current.item(), 0);
});

Deno.test("a tensor is printed by type and shape", () => {
  using x = mx.ones([2, 3], "bfloat16");
  assert.equal(Deno.inspect(x), "Tensor bfloat16 [2, 3]");
});
