import { deepEqual, equal } from "node:assert/strict";
import { friendlyName, staticIdentity } from "../../../node/info/identity.ts";
import { FakeMachine, golden } from "../../support/fake_machine.ts";

const options = { timeoutMs: 1, signal: new AbortController().signal };

Deno.test("a Linux machine is known by its files alone", async () => {
  const machine = new FakeMachine();
  const gpus = "/proc/driver/nvidia/gpus";
  machine.files
    .set("/sys/class/dmi/id/product_name", "ProLiant DL380 Gen11\n")
    .set("/proc/cpuinfo", await golden("linux_cpuinfo.txt"))
    .set(`${gpus}/0000:18:00.0/information`, await golden("nvidia_information.txt"))
    .set(`${gpus}/0000:2a:00.0/information`, await golden("nvidia_information.txt"))
    .set(`${gpus}/0000:3b:00.0/registry`, "")
    .set("/etc/os-release", await golden("linux_os_release.txt"));
  deepEqual(await staticIdentity(machine, options), {
    machineModel: "ProLiant DL380 Gen11",
    chipId: "Intel(R) Xeon(R) Processor + 2 × NVIDIA H200",
    osVersion: "Debian GNU/Linux 12 (bookworm)",
    osBuildVersion: "6.1.0",
  });
  deepEqual(machine.ran, []);
});

Deno.test("a small board tells its name by the device tree; what is not told is said to be so", async () => {
  const machine = new FakeMachine();
  machine.arch = "aarch64";
  const bare = {
    machineModel: "Unknown",
    chipId: "aarch64",
    osVersion: "linux 6.1.0",
    osBuildVersion: "6.1.0",
  };
  deepEqual(await staticIdentity(machine, options), bare);
  machine.files.set("/proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0");
  const { machineModel } = await staticIdentity(machine, options);
  equal(machineModel, "Raspberry Pi 5 Model B Rev 1.0");
});

Deno.test("a Mac is known by Apple's tools, as far as they answer", async () => {
  const machine = new FakeMachine();
  machine.os = "darwin";
  machine.arch = "aarch64";
  const bare = {
    machineModel: "Unknown",
    chipId: "aarch64",
    osVersion: "darwin 6.1.0",
    osBuildVersion: "Unknown",
  };
  deepEqual(await staticIdentity(machine, options), bare);
  machine.commands.set("sw_vers", await golden("mac_sw_vers.txt"));
  machine.commands.set("system_profiler SPHardwareDataType", await golden("mac_hardware.txt"));
  deepEqual(await staticIdentity(machine, options), {
    machineModel: "Mac Studio",
    chipId: "Apple M3 Ultra",
    osVersion: "macOS 26.2",
    osBuildVersion: "25C56",
  });
});

Deno.test("another system is known by its name", async () => {
  const machine = new FakeMachine();
  machine.os = "freebsd";
  const { osVersion, machineModel } = await staticIdentity(machine, options);
  deepEqual([osVersion, machineModel], ["freebsd 6.1.0", "Unknown"]);
});

Deno.test("a Mac has the name that its owner gave it, any other machine its host's", async () => {
  const machine = new FakeMachine();
  machine.commands.set("scutil --get ComputerName", "Ada's Mac Studio\n");
  equal(await friendlyName(machine, options), "box");
  machine.os = "darwin";
  equal(await friendlyName(machine, options), "Ada's Mac Studio");
  machine.commands.set("scutil --get ComputerName", "\n");
  equal(await friendlyName(machine, options), "box");
  machine.commands.set("scutil --get ComputerName", "x".repeat(1_000));
  equal((await friendlyName(machine, options)).length, 253);
  machine.commands.clear();
  equal(await friendlyName(machine, options), "box");
});
