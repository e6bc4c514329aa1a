import { equal } from "node:assert/strict";
import { RateLimit } from "../../net/rate_limit.ts";

/** How many of `wanted` pass at once. */
function passing(limit: RateLimit, wanted: number, now: number): number {
  return Array.from({ length: wanted }, () => limit.take(now)).filter((one) => one).length;
}

Deno.test("a rate limit lets a burst through, then so many in a second", () => {
  const limit = new RateLimit({ perSecond: 10, burst: 20 }, 1_000);
  equal(passing(limit, 50, 1_000), 20);
  equal(passing(limit, 50, 1_500), 5);
  equal(passing(limit, 50, 2_500), 10);
});

Deno.test("a rate limit saves up no more than a burst, and nothing by a clock that goes back", () => {
  const limit = new RateLimit({ perSecond: 10, burst: 20 }, 0);
  equal(passing(limit, 50, 3_600_000), 20);
  equal(passing(limit, 50, 0), 0);
});
