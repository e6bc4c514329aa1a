import assert from "node:assert/strict";
import { NODE_V8_FLAGS, RUNNER_V8_FLAGS } from "../../core/v8_flags.ts";

Deno.test("V8 knows each flag of a runner, and runs with all of them", async () => {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "0"],
    env: { DENO_V8_FLAGS: RUNNER_V8_FLAGS.join(",") },
    stdout: "null",
  }).output();
  assert.deepEqual([success, new TextDecoder().decode(stderr)], [true, ""]);
});

Deno.test("nodes have their flags from the tasks that start them", async () => {
  const file = new URL("../../deno.json", import.meta.url);
  const { tasks } = JSON.parse(await Deno.readTextFile(file));
  for (const task of ["exo", "demo"]) {
    assert.match(tasks[task].command, new RegExp(` --v8-flags=${NODE_V8_FLAGS.join(",")} main.ts`));
  }
});
