import assert from "node:assert/strict";
import { ensureSetup } from "../ffi/setup.ts";
import { ranksOf, Schedules } from "./verify/schedules.ts";

/** The short form of `deno task verify schedules`. */
const SHORT = 100;

await ensureSetup();

Deno.test(`${SHORT} schedules over the ranks of a pipeline end, and are answered as by one`, () => {
  const schedules = new Schedules();
  for (let seed = 0; seed < SHORT; seed++) {
    for (const ranks of ranksOf(seed)) schedules.run(seed, ranks);
  }
  schedules.close();
  const { report } = schedules;
  // A run without these has tested nothing.
  for (const [what, count] of Object.entries(report)) assert.ok(count > 0, `${what}: ${count}`);
  assert.equal(report.overTwo, SHORT);
  assert.equal(report.atOnce, 3);
});
