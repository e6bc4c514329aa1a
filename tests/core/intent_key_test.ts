import assert from "node:assert/strict";
import { IntentKey, partsOf } from "../../core/intent_key.ts";

Deno.test("a key is a kind and an id, whatever the id", () => {
  assert.deepEqual(partsOf("card:org/a:b"), { kind: "card", id: "org/a:b" });
  assert.deepEqual(partsOf("instance:"), { kind: "instance", id: "" });
});

Deno.test("no other thing is a key", () => {
  for (const text of ["", "card", "node:a", "cards:a", ":a"]) {
    assert.equal(IntentKey.safeParse(text).success, false, text);
  }
  assert.equal(IntentKey.safeParse("meta:m").success, true);
});
