import assert from "node:assert/strict";
import { hunt, MUTANTS } from "./mutants.ts";
import { simulate } from "./simulate.ts";

/** Seeds of the short form; the long one is `deno task sim --seeds 1000`. */
const SEEDS = 60;

Deno.test("clusters keep their promises under faults, and come to rest once these stop", () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { failure, trace } = simulate({ seed });
    if (!failure) continue;
    const replay = `replay: deno task sim --seed ${seed}`;
    assert.fail([`${failure.property}: ${failure.detail}`, ...trace, replay].join("\n"));
  }
});

Deno.test("a seed is a run: twice the same, line by line", () => {
  for (const seed of [3, 17]) {
    const [first, second] = [1, 2].map(() => simulate({ seed, keepTrace: true }));
    assert.ok((first?.trace.length ?? 0) > 100);
    assert.deepEqual(first?.trace, second?.trace);
    assert.equal(first?.digest, second?.digest);
  }
});

Deno.test("another seed is another run", () => {
  const [a, b] = [5, 6].map((seed) => simulate({ seed, nodes: 3 }));
  assert.notEqual(a?.digest, b?.digest);
});

/**
 * Planted bugs that many seeds find: the first that does is another one after each change of
 * `core/`. `mutants.ts` hunts all of them.
 */
const SHORT = ["skip-gap-check", "no-branch", "no-wait"];

for (const mutant of MUTANTS.filter(({ name }) => SHORT.includes(name))) {
  Deno.test(`the simulator notices when ${mutant.bug}`, async () => {
    assert.ok(await hunt(mutant, SEEDS), `not found in ${SEEDS} seeds`);
  });
}
