import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { PrefillPace, STEP_MS_MAX } from "../../../engines/text/prefill_pace.ts";

/** The chunks of a prompt on a machine that takes `msPerToken`. */
function chunks(tokens: number, msPerToken: number, limit = 512): number[] {
  const pace = new PrefillPace();
  const sizes: number[] = [];
  for (let left = tokens; left > 0; left -= sizes.at(-1) ?? 0) {
    const size = pace.next(Math.min(left, limit));
    pace.measured(size, size * msPerToken);
    sizes.push(size);
  }
  return sizes;
}

Deno.test("PrefillPace keeps every step but the first within its limit", () => {
  fc.assert(fc.property(fc.double({ min: 0.01, max: 1000, noNaN: true }), (msPerToken) => {
    const sizes = chunks(2000, msPerToken);
    equal(sizes.reduce((sum, size) => sum + size, 0), 2000);
    for (const size of sizes.slice(1)) ok(size === 1 || size * msPerToken <= STEP_MS_MAX);
  }));
});

Deno.test("PrefillPace grows by doubling up to the limit", () => {
  deepEqual(chunks(100, 0.001, 32), [2, 4, 8, 16, 32, 32, 6]);
});

Deno.test("PrefillPace slows down at once when tokens take longer", () => {
  const pace = new PrefillPace();
  for (let i = 0; i < 10; i++) pace.measured(pace.next(512), 1);
  const before = pace.next(512);
  pace.measured(before, 10_000);
  ok(pace.next(512) < before / 4);
});

Deno.test("PrefillPace copes with a clock that stands still", () => {
  const pace = new PrefillPace();
  pace.measured(2, 0);
  equal(pace.next(512), 4);
});
