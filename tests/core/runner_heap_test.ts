import { deepEqual } from "node:assert/strict";
import { RUNNER_V8_FLAGS } from "../../core/runner_heap.ts";

Deno.test("V8 knows each flag of a runner, and runs with all of them", async () => {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "0"],
    env: { DENO_V8_FLAGS: RUNNER_V8_FLAGS.join(",") },
    stdout: "null",
  }).output();
  deepEqual([success, new TextDecoder().decode(stderr)], [true, ""]);
});
