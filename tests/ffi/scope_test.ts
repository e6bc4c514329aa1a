import assert from "node:assert/strict";
import * as mx from "../../ffi/mod.ts";
import "./support.ts";

Deno.test("a scope frees what was made in it, and nothing else", () => {
  using before = mx.ones([2]);
  const start = mx.liveArrays();
  let inside: mx.Tensor;
  {
    using _scope = new mx.Scope();
    inside = before.add(1).multiply(2);
    assert.equal(mx.liveArrays(), start + 2);
  }
  assert.equal(mx.liveArrays(), start);
  assert.throws(() => inside.item(), /was freed/);
  assert.deepEqual(before.toNumbers(), [1, 1]);
});

Deno.test("a kept tensor outlives its scope and belongs to the caller", () => {
  const start = mx.liveArrays();
  let byScope: mx.Tensor, byItself: mx.Tensor;
  {
    using scope = new mx.Scope();
    byScope = scope.keep(mx.ones([2]));
    byItself = mx.zeros([2]).keep();
  }
  assert.equal(mx.liveArrays(), start + 2);
  assert.deepEqual(byScope.add(byItself).toNumbers(), [1, 1]);
  byScope[Symbol.dispose]();
  byItself[Symbol.dispose]();
});

Deno.test("scopes nest: each frees its own", () => {
  using _outer = new mx.Scope();
  const outer = mx.ones([1]);
  const start = mx.liveArrays();
  let inner: mx.Tensor, kept: mx.Tensor;
  {
    using scope = new mx.Scope();
    inner = mx.ones([1]);
    kept = scope.keep(inner.add(outer));
  }
  assert.throws(() => inner.item(), /was freed/);
  assert.equal(kept.item() + outer.item(), 3);
  assert.equal(mx.liveArrays(), start + 1);
  kept[Symbol.dispose]();
});

Deno.test("a scope closes when its body throws", () => {
  const start = mx.liveArrays();
  assert.throws(() => {
    using _scope = new mx.Scope();
    mx.ones([2, 3]).matmul(mx.ones([2, 3]));
  }, mx.NativeError);
  assert.equal(mx.liveArrays(), start);
});

Deno.test("a tensor freed inside its scope is not freed twice, even if its slot is reused", () => {
  const start = mx.liveArrays();
  const scope = new mx.Scope();
  mx.ones([1])[Symbol.dispose]();
  const kept = scope.keep(mx.zeros([1])); // Takes the slot.
  scope[Symbol.dispose]();
  assert.equal(kept.item(), 0);
  kept[Symbol.dispose]();
  scope[Symbol.dispose](); // Once more does no harm.
  assert.equal(mx.liveArrays(), start);
});

Deno.test("scopes that do not end in reverse order are refused, and can still end in order", () => {
  const outer = new mx.Scope();
  const inner = new mx.Scope();
  assert.throws(() => outer[Symbol.dispose](), /scope 1 is not the innermost one, which is 2/);
  inner[Symbol.dispose]();
  outer[Symbol.dispose]();
});
