import { deepEqual, equal, rejects } from "node:assert/strict";
import {
  HardwarePorts,
  macInterfaceType,
  parseHardwarePorts,
} from "../../../node/info/hardware_ports.ts";
import { FakeMachine, golden } from "../../support/fake_machine.ts";

const ASK = "networksetup -listallhardwareports";

Deno.test("a Mac's ports are listed by device", async () => {
  const ports = parseHardwarePorts(await golden("mac_hardware_ports.txt"));
  equal(ports.size, 8);
  deepEqual([ports.get("en0"), ports.get("en2")], ["Ethernet", "Thunderbolt 1"]);
  equal(ports.get("bridge0"), "Thunderbolt Bridge");
});

Deno.test("what a Mac's interface is goes by its port, and by whether it was there from the start", () => {
  equal(macInterfaceType("en0", "Wi-Fi"), "wifi");
  equal(macInterfaceType("en0", "Ethernet"), "ethernet");
  equal(macInterfaceType("en1", "USB 10/100/1000 LAN"), "ethernet");
  equal(macInterfaceType("bridge0", "Thunderbolt Bridge"), "thunderbolt");
  equal(macInterfaceType("en2", "Thunderbolt 1"), "maybe_ethernet");
  equal(macInterfaceType("en7", undefined), "maybe_ethernet");
  equal(macInterfaceType("pdp0", "Bluetooth PAN"), "unknown");
  equal(macInterfaceType("utun3", undefined), "unknown");
});

Deno.test("a Mac is asked for its ports rarely: when they are old, or a device is new", async () => {
  const machine = new FakeMachine();
  machine.commands.set(ASK, await golden("mac_hardware_ports.txt"));
  const ports = new HardwarePorts(machine, new AbortController().signal);
  await Promise.all([ports.read(["en0"]), ports.read(["en0"])]);
  equal(machine.ran.length, 1, "both wait for one answer");
  await ports.read(["en0"]);
  equal(machine.ran.length, 1);
  await ports.read(["en0", "utun0"]);
  equal(machine.ran.length, 2, "utun0 is new");
  await ports.read(["utun0"]);
  equal(machine.ran.length, 2, "and has no port, which is known by now");
  machine.now += 60_000;
  await ports.read();
  equal(machine.ran.length, 3);
});

Deno.test("a Mac that does not tell is asked again the next time", async () => {
  const machine = new FakeMachine();
  const ports = new HardwarePorts(machine, new AbortController().signal);
  await rejects(ports.read(["en0"]), /networksetup -listallhardwareports: no such program/);
  machine.commands.set(ASK, "Hardware Port: Ethernet\nDevice: en0\n");
  deepEqual([...await ports.read(["en0"])], [["en0", "Ethernet"]]);
});
