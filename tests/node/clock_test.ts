import assert from "node:assert/strict";
import { TextGenerationPayload } from "../../core/task.ts";
import { Millis } from "../../core/units.ts";
import { SYSTEM_CLOCK } from "../../node/clock.ts";

Deno.test("the system's clock gives whole milliseconds, fresh ids and 64-bit seeds", () => {
  assert.ok(Millis.parse(SYSTEM_CLOCK.now()) > 1_600_000_000_000);
  assert.match(SYSTEM_CLOCK.newId(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-/);
  assert.notEqual(SYSTEM_CLOCK.newId(), SYSTEM_CLOCK.newId());
  for (let n = 0; n < 100; n++) {
    const seed = SYSTEM_CLOCK.newSeed();
    assert.ok(BigInt(seed) < 2n ** 64n);
    TextGenerationPayload.shape.seed.parse(seed);
  }
});
