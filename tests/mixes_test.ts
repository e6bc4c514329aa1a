import assert from "node:assert/strict";
import { ensureSetup } from "../ffi/setup.ts";
import { SMOLLM2 } from "./engines/golden.ts";
import { runMixes } from "./verify/mixes.ts";

/** The short form of `deno task verify mixes`: each setup once, by its seed, and how many mixes. */
const SHORT = [[0, 4], [1, 4], [2, 4], [3, 4], [4, 4], [5, 1]] as const;

/** Setups of which it is known that requests have to wait, give way and begin anew. */
const PREEMPTING: readonly number[] = [1, 2, 3];

await ensureSetup();

for (const [seed, mixes] of SHORT) {
  Deno.test({
    name: `requests in ${mixes} mixes are answered as if alone (seed ${seed})`,
    ignore: SMOLLM2 === undefined && seed === SHORT.length - 1,
    fn: () => {
      const report = runMixes(seed, mixes, SMOLLM2);
      assert.deepEqual(report.findings, []);
      // A run without these has tested nothing.
      assert.ok(report.compared > report.cancelled && report.cachedTokens > 0);
      assert.ok(report.preemptions > 0 || !PREEMPTING.includes(seed), "nobody was preempted");
    },
  });
}
