import { rejects } from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { eventually } from "./eventually.ts";

Deno.test("eventually() takes a look that ends within the limit", () =>
  eventually("it is so", () => true));

Deno.test("eventually() refuses a look that ends after the limit, whatever it found", async () => {
  const limitMs = 25;
  const endsLate = async () => {
    const begun = performance.now();
    while (performance.now() - begun <= limitMs) await setImmediate();
    return true;
  };
  await rejects(
    () => eventually("it is so", endsLate, limitMs),
    /in vain until it is so: it was so only/,
  );
});

Deno.test("eventually() gives up what never is so", async () => {
  await rejects(
    () => eventually("it is so", () => false, 0),
    /in vain until it is so: it was not/,
  );
});
