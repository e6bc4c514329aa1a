import { deepEqual, equal } from "node:assert/strict";
import { LinuxSensors } from "../../../node/info/linux_sensors.ts";
import { FakeMachine } from "../../support/fake_machine.ts";

/** Cores that were busy and idle for so long. */
function stat(...cores: (readonly [busy: number, idle: number])[]): string {
  return cores.map(([busy, idle], n) => `cpu${n} ${busy} 0 0 ${idle} 0 0 0 0 0 0\n`).join("");
}

function known(system: object): object {
  return Object.fromEntries(Object.entries(system).filter(([, value]) => value !== undefined));
}

Deno.test("a machine that tells nothing has nothing to tell, and one more look has its usage", async () => {
  const machine = new FakeMachine();
  const sensors = new LinuxSensors(machine);
  deepEqual(known(await sensors.read()), {});
  machine.files.set("/proc/stat", stat([10, 10]));
  deepEqual(known(await sensors.read()), {}, "it came later");
  machine.files.set("/proc/stat", stat([15, 25]));
  deepEqual(known(await sensors.read()), { cpuUsage: 0.25 });
});

Deno.test("two kinds of cores are told apart, by Intel's lists or by what each can do", async () => {
  const intel = new FakeMachine();
  intel.files.set("/sys/devices/cpu_core/cpus", "0\n").set("/sys/devices/cpu_atom/cpus", "1-2\n");
  const arm = new FakeMachine();
  for (const [core, capacity] of [1024, 446, 446].entries()) {
    arm.files.set(`/sys/devices/system/cpu/cpu${core}/cpu_capacity`, `${capacity}\n`);
  }
  for (const machine of [intel, arm]) {
    const sensors = new LinuxSensors(machine);
    machine.files.set("/proc/stat", stat([0, 0], [0, 0], [0, 0]));
    await sensors.read();
    machine.files.set("/proc/stat", stat([10, 0], [0, 10], [5, 5]));
    deepEqual(known(await sensors.read()), {
      cpuUsage: 0.5,
      performanceCoreUsage: 1,
      efficiencyCoreUsage: 0.25,
    });
  }
});

Deno.test("cores of which one does not say what it can do are of one kind", async () => {
  const machine = new FakeMachine();
  const root = "/sys/devices/system/cpu";
  machine.files.set(`${root}/cpu0/cpu_capacity`, "1024\n").set(`${root}/cpu1/online`, "1\n");
  machine.files.set("/proc/stat", stat([0, 0], [0, 0]));
  const sensors = new LinuxSensors(machine);
  await sensors.read();
  machine.files.set("/proc/stat", stat([10, 0], [0, 10]));
  deepEqual(known(await sensors.read()), { cpuUsage: 0.5 });
});

Deno.test("the hottest sensor of the processors counts, others and broken ones do not", async () => {
  const machine = new FakeMachine();
  const sensor = (folder: string, kind: string, value: string) => {
    const isZone = folder.startsWith("thermal");
    machine.files.set(`/sys/class/${folder}/${isZone ? "type" : "name"}`, `${kind}\n`);
    machine.files.set(`/sys/class/${folder}/${isZone ? "temp" : "temp1_input"}`, `${value}\n`);
  };
  sensor("thermal/thermal_zone0", "acpitz", "90000");
  sensor("thermal/thermal_zone1", "x86_pkg_temp", "51000");
  sensor("thermal/thermal_zone2", "cpu-broken", "-274000");
  sensor("hwmon/hwmon0", "coretemp", "52340");
  sensor("hwmon/hwmon1", "nvme", "80000");
  sensor("hwmon/hwmon2", "k10temp", "");
  const sensors = new LinuxSensors(machine);
  deepEqual(known(await sensors.read()), { cpuTemperatureCelsius: 52.3 });
});

Deno.test("power is read of the processors' counters, where they may be read", async () => {
  const machine = new FakeMachine();
  const zone = (folder: string, name: string, energy?: number) => {
    const at = `/sys/class/powercap/${folder}`;
    machine.files.set(`${at}/name`, `${name}\n`).set(`${at}/max_energy_range_uj`, "1000000000\n");
    if (energy !== undefined) machine.files.set(`${at}/energy_uj`, `${energy}\n`);
  };
  zone("intel-rapl:0", "package-0", 1_000_000);
  zone("intel-rapl:0:0", "dram", 500_000);
  zone("intel-rapl:1", "package-1", 0);
  zone("intel-rapl:2", "package-2");
  const sensors = new LinuxSensors(machine);
  await sensors.read();
  machine.now += 5_000;
  zone("intel-rapl:0", "package-0", 101_000_000);
  zone("intel-rapl:0:0", "dram", 900_000_000);
  zone("intel-rapl:1", "package-1", 50_000_000);
  deepEqual(known(await sensors.read()), { powerWatts: 30 });
  machine.files.delete("/sys/class/powercap/intel-rapl:1/energy_uj");
  machine.now += 5_000;
  equal((await sensors.read()).powerWatts, undefined, "one of them is gone");
});
