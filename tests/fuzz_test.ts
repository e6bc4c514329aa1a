import assert from "node:assert/strict";
import { ensureSetup } from "../ffi/setup.ts";
import { fuzzHttp, FuzzTarget } from "./verify/http.ts";
import { fuzzModels } from "./verify/model_files.ts";
import { fuzzNetwork, seldomSaidOn } from "./verify/network/mod.ts";

Deno.test("a node answers 3,000 mutated requests with documented statuses", async () => {
  await using target = await FuzzTarget.start();
  const { findings, statuses } = await fuzzHttp(target, 1, 3_000);
  assert.deepEqual(findings, []);
  // A run that is refused at the door has tested nothing.
  for (const status of [200, 400, 404, 405]) {
    assert.ok((statuses.get(status) ?? 0) > 50, `${status}`);
  }
});

Deno.test("200 mutated model files are refused by an error of ours, or load and answer", async () => {
  await ensureSetup();
  const { refused, answered, findings } = await fuzzModels(1, 200);
  assert.deepEqual(findings, []);
  // A run that mutates too much or too little has tested nothing.
  assert.ok(refused > 50 && answered > 10, `${refused} refused, ${answered} answered`);
});

Deno.test("2,000 mutated messages between nodes crash nothing and change no state", async () => {
  const count = 2_000;
  const parts = await fuzzNetwork(1, count);
  for (const { name, said, wellFormed, findings } of parts) {
    assert.deepEqual(findings, [], name);
    // A part whose messages are all refused by their looks has tested its decoder alone.
    assert.ok(said >= 40 && wellFormed > said / 50, `${name}: ${wellFormed} of ${said}`);
  }
  assert.deepEqual(await seldomSaidOn(parts, count), [], "each topic and protocol has a part");
});
