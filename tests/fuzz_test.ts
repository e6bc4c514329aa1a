import assert from "node:assert/strict";
import { fuzzHttp } from "./verify/http.ts";

Deno.test("the API answers 3,000 mutated requests with documented statuses", async () => {
  const { findings, statuses } = await fuzzHttp(1, 3_000);
  assert.deepEqual(findings, []);
  // A run that is refused at the door has tested nothing.
  for (const status of [200, 400, 404, 405]) {
    assert.ok((statuses.get(status) ?? 0) > 50, `${status}`);
  }
});
