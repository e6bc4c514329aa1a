import { deepEqual, equal } from "node:assert/strict";
import type { NodeSystem } from "../../../core/telemetry.ts";
import { SYSTEM_MS, watchSystem, withGpu } from "../../../node/info/system.ts";
import { FakeMachine, golden } from "../../support/fake_machine.ts";

function watched(machine: FakeMachine) {
  const stop = new AbortController();
  const told: NodeSystem[] = [];
  const gathering = { sources: machine, signal: stop.signal, tell: () => {} };
  const ended = watchSystem(gathering, (system) => told.push(system));
  return { stop, told, ended };
}

const usages = (told: readonly NodeSystem[]) => told.map(({ cpuUsage }) => cpuUsage);

Deno.test("a Linux machine is looked at every five seconds, without a process", async () => {
  const machine = new FakeMachine();
  machine.files.set("/proc/stat", "cpu0 0 0 0 0\n");
  const { stop, told, ended } = watched(machine);
  await machine.pass();
  machine.files.set("/proc/stat", "cpu0 1 0 0 3\n");
  await machine.pass(SYSTEM_MS);
  deepEqual(usages(told), [undefined, 0.25]);
  stop.abort();
  await ended;
  deepEqual([machine.ran, machine.waitCount], [[], 0]);
});

/** A Mac with macmon; `followed` is how it is named. */
async function mac(program = "macmon"): Promise<FakeMachine> {
  const machine = new FakeMachine();
  machine.os = "darwin";
  machine.cores = [{ busy: 0, total: 0 }];
  const sample = await golden("macmon_0_8.json");
  machine.commands.set(`${program} pipe --samples 1 --interval 100`, sample);
  machine.commands.set(`${program} pipe --interval ${SYSTEM_MS}`, "");
  return machine;
}

Deno.test("a Mac is sampled by macmon; while that does not go the cores are looked at", async () => {
  const machine = await mac();
  const { stop, told, ended } = watched(machine);
  await machine.pass();
  machine.say("macmon", (await golden("macmon_0_7.json")).trim());
  machine.say("macmon", "no sample");
  machine.cores = [{ busy: 1, total: 2 }];
  await machine.pass(SYSTEM_MS);
  deepEqual(usages(told), [undefined, 0.037]);
  machine.followers.get("macmon")?.end({ ok: false, isMissing: false, reason: "it ended with 1" });
  machine.cores = [{ busy: 2, total: 6 }];
  await machine.pass(SYSTEM_MS);
  deepEqual(usages(told), [undefined, 0.037, 0.25]);
  machine.say("macmon", (await golden("macmon_0_8.json")).trim());
  deepEqual(usages(told).at(-1), 0.092, "it was started again");
  stop.abort();
  await ended;
  equal(machine.waitCount, 0);
});

Deno.test("macmon may lie elsewhere, and one that does not work is left alone", async () => {
  const elsewhere = await mac("/opt/macmon");
  elsewhere.variables = { EXO_MACMON_PATH: "/opt/macmon" };
  const broken = await mac();
  broken.commands.set("macmon pipe --samples 1 --interval 100", "Illegal instruction\n");
  const missing = await mac();
  missing.variables = { EXO_MACMON_PATH: "" };
  missing.commands.clear();
  for (const [machine, followed] of [[elsewhere, 1], [broken, 0], [missing, 0]] as const) {
    const { stop, ended } = watched(machine);
    await machine.pass(SYSTEM_MS);
    equal(machine.followers.size, followed);
    stop.abort();
    await ended;
  }
});

Deno.test("on another system the cores are all that is known", async () => {
  const machine = new FakeMachine();
  machine.os = "freebsd";
  machine.cores = [{ busy: 0, total: 0 }];
  const { stop, told, ended } = watched(machine);
  await machine.pass();
  machine.cores = [{ busy: 3, total: 4 }];
  await machine.pass(SYSTEM_MS);
  deepEqual(usages(told), [undefined, 0.75]);
  stop.abort();
  await ended;
  deepEqual(machine.ran, []);
});

Deno.test("a GPU adds what it tells: its usage, its temperature, and its power to the processors'", () => {
  const system = { cpuUsage: 0.5, powerWatts: 20.5 };
  equal(withGpu(system, undefined), system);
  deepEqual(withGpu(system, { usage: 1, temperatureCelsius: 60, powerWatts: 100.25 }), {
    ...system,
    gpuUsage: 1,
    gpuTemperatureCelsius: 60,
    powerWatts: 120.8,
  });
  equal(withGpu(system, { usage: 1 }).powerWatts, 20.5);
  equal(withGpu({}, { powerWatts: 100 }).powerWatts, 100);
  equal(withGpu({}, {}).powerWatts, undefined);
});
