import assert from "node:assert/strict";
import { CommandId, InstanceId, ModelId, runnerIdOf, taskIdOf } from "../../core/ids.ts";

Deno.test("ids are derived, so that a repeated decision makes nothing new", () => {
  const longest = InstanceId.parse("i".repeat(128));
  assert.equal(runnerIdOf(InstanceId.parse("i"), 0), "i:0");
  assert.equal(runnerIdOf(longest, 1_023).length, 133);
  assert.equal(taskIdOf(CommandId.parse("c")), "c");
});

Deno.test("an empty id and an endless one are refused", () => {
  assert.throws(() => InstanceId.parse(""));
  assert.throws(() => InstanceId.parse("i".repeat(129)));
  assert.throws(() => ModelId.parse("m".repeat(257)));
});
