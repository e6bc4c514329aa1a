import assert from "node:assert/strict";
import fc from "fast-check";
import { isSame } from "../../core/same.ts";

Deno.test("plain data is the same whatever the order of its fields, and an absent one", () => {
  assert.ok(isSame({ a: 1, b: [1, { c: null }] }, { b: [1, { c: null }], a: 1 }));
  assert.ok(isSame({ a: 1, b: undefined }, { a: 1 }));
  const different: [unknown, unknown][] = [
    [1, 2],
    [1, "1"],
    [null, {}],
    [[], {}],
    [[1, 2], [2, 1]],
    [[1], [1, 2]],
    [{ a: 1 }, { a: 1, b: null }],
    [{ a: { b: 1 } }, { a: { b: 2 } }],
  ];
  for (const [a, b] of different) {
    assert.ok(!isSame(a, b), JSON.stringify([a, b]));
    assert.ok(!isSame(b, a), JSON.stringify([b, a]));
  }
});

Deno.test("data is the same as its copy, and another only if its JSON is", () => {
  fc.assert(fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
    assert.ok(isSame(a, structuredClone(a)));
    if (JSON.stringify(a) === JSON.stringify(b)) assert.ok(isSame(a, b));
    if (isSame(a, b)) assert.deepEqual(a, b);
  }));
});
