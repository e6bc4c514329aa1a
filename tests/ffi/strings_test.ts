import assert from "node:assert/strict";
import { cString, packStrings, unpackStrings } from "../../ffi/strings.ts";

Deno.test("strings make the round trip, empty, long and beyond ASCII", () => {
  const strings = ["", "a", "ключ", "🙂\0zero", "x".repeat(70_000)];
  assert.deepEqual(unpackStrings(packStrings(strings)), strings);
  assert.deepEqual(unpackStrings(packStrings([])), []);
});

Deno.test("cString() ends in a zero byte", () => {
  assert.deepEqual([...cString("hé")], [0x68, 0xc3, 0xa9, 0]);
});
