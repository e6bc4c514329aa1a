import { equal, ok } from "node:assert/strict";
import { thisMachine } from "../../bench/machine.ts";

Deno.test("thisMachine() names processor, cores, memory and system", async () => {
  const machine = await thisMachine();
  equal(machine.cores, navigator.hardwareConcurrency);
  equal(machine.deno, Deno.version.deno);
  ok(machine.memoryBytes > 2 ** 28);
  for (const name of [machine.os, machine.cpu, machine.arch]) ok(name.length > 2, name);
});
