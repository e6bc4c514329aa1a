import assert from "node:assert/strict";
import { ensureSetup } from "../ffi/setup.ts";
import { MemoryGroup } from "./support/memory_group.ts";
import { memoryOfRequests } from "./verify/memory.ts";

/** The short form of `deno task verify memory`. */
const REQUESTS = 100;

Deno.test("100 requests of random length leave active memory as it was", async () => {
  await ensureSetup();
  const { began, most, kvBudget } = memoryOfRequests(1, REQUESTS);
  // A run that does not come near the budget has tested nothing.
  assert.ok(most - began > 0.9 * kvBudget, `${most - began} of ${kvBudget} bytes`);
});

const LIMIT_BYTES = 64 * 1_048_576;

Deno.test("a memory group tells how many of its processes were killed", async (t) => {
  await using group = MemoryGroup.make(LIMIT_BYTES);
  if (!group) return void await t.step({ name: "no control group here", ignore: true, fn() {} });
  const run = async (bytes: number) => {
    // Without a line's end, tail holds all that it reads.
    const eat = ["sh", "-c", `head -c ${bytes} /dev/zero | tail -n 1`];
    const [program = "", ...args] = [...group.wrap, ...eat];
    return await new Deno.Command(program, { args, stdout: "null", stderr: "null" }).output();
  };
  assert.equal(group.oomKills(), 0);
  await run(1_024);
  assert.equal(group.oomKills(), 0);
  await run(2 * LIMIT_BYTES);
  assert.ok(group.oomKills() > 0);
  assert.ok(group.peakBytes() > 0.5 * LIMIT_BYTES);
});
