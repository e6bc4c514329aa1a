import assert from "node:assert/strict";
import { RateLimit, RateLimits } from "../../net/rate_limit.ts";

/** How many of `tries` pass at a time. */
function passed(take: () => boolean, tries: number): number {
  return Array.from({ length: tries }, take).filter((isTaken) => isTaken).length;
}

Deno.test("so many pass at once, then so many in each second", () => {
  const limit = new RateLimit({ perSecond: 10, burst: 3 }, 1_000);
  assert.equal(passed(() => limit.take(1_000), 9), 3);
  assert.equal(passed(() => limit.take(1_099), 9), 0);
  assert.equal(passed(() => limit.take(1_100), 9), 1);
  assert.equal(passed(() => limit.take(60_000), 9), 3, "what is not used is not saved up");
});

Deno.test("a clock that goes back lets nothing more through", () => {
  const limit = new RateLimit({ perSecond: 10, burst: 1 }, 1_000);
  assert.equal(limit.take(1_000), true);
  assert.equal(limit.take(0), false);
  assert.equal(limit.take(99), false);
});

Deno.test("each has a limit of its own", () => {
  const limits = new RateLimits<string>({ perSecond: 1, burst: 2 });
  assert.equal(passed(() => limits.take("a", 0), 5), 2);
  assert.equal(passed(() => limits.take("b", 0), 5), 2);
  assert.equal(limits.take("a", 0), false);
});

Deno.test("of very many the first is forgotten, so that they fill no memory", () => {
  const limits = new RateLimits<number>({ perSecond: 1, burst: 1 });
  for (let key = 0; key < 4_096; key++) assert.equal(limits.take(key, 0), true);
  assert.equal(limits.take(0, 0), false);
  assert.equal(limits.take(4_096, 0), true);
  assert.equal(limits.take(4_096, 0), false);
  assert.equal(limits.take(0, 0), true, "it begins anew");
});
