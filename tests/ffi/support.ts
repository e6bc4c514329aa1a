/** What the tests of this room share: a shim that is set up, oracles and comparisons. */
import assert from "node:assert/strict";
import { ensureSetup, Scope, type Tensor } from "../../ffi/mod.ts";

await ensureSetup();

/** A test whose tensors are freed at its end. */
export function scoped(name: string, body: () => void): void {
  Deno.test(name, () => {
    using _scope = new Scope();
    body();
  });
}

/** Asserts that numbers are equal up to a tolerance, relative to 1 or the greater one. */
export function close(
  actual: Tensor | ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance = 1e-5,
): void {
  const found = "toNumbers" in actual ? actual.toNumbers() : Array.from(actual);
  assert.equal(found.length, expected.length);
  found.forEach((value, i) => {
    const wanted = expected[i] as number;
    const same = Object.is(value, wanted) || value === wanted ||
      Math.abs(value - wanted) <= tolerance * Math.max(1, Math.abs(wanted));
    assert.ok(same, `number ${i} is ${value}, expected ${wanted}; all: ${found.slice(0, 40)}`);
  });
}

/** Numbers in [-1, 1) that look random and are always the same. */
export function noise(count: number, seed = 1): number[] {
  let state = seed * 2654435761 % 2 ** 32;
  return Array.from({ length: count }, () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 31 - 1;
  });
}

/** Indices 0 up to n. */
export function range(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i);
}
