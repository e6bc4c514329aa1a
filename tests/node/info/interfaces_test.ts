import { deepEqual, equal } from "node:assert/strict";
import { HardwarePorts } from "../../../node/info/hardware_ports.ts";
import {
  INTERFACES_MAX,
  linuxInterfaceType,
  networkInterfaces,
} from "../../../node/info/interfaces.ts";
import { FakeMachine } from "../../support/fake_machine.ts";

const portsOf = (machine: FakeMachine) => new HardwarePorts(machine, new AbortController().signal);

/** A Linux machine with one interface. */
function withInterface(files: Record<string, string>, driver = "../drivers/e1000e"): FakeMachine {
  const machine = new FakeMachine();
  for (const [name, text] of Object.entries(files)) {
    machine.files.set(`/sys/class/net/x/${name}`, text);
  }
  machine.links.set("/sys/class/net/x/device/driver", driver);
  return machine;
}

Deno.test("the kernel shows what an interface is made of", async () => {
  const cases: [string, Record<string, string>, string?][] = [
    ["wifi", { type: "1\n", speed: "-1\n", "wireless/link": "" }],
    ["wifi", { type: "1\n", phy80211: "" }],
    [
      "thunderbolt",
      { type: "1\n", speed: "20000\n" },
      "../../bus/thunderbolt/drivers/thunderbolt-net",
    ],
    ["ethernet", { type: "1\n", speed: "10000\n" }],
    ["maybe_ethernet", { type: "1\n", speed: "-1\n" }, "../drivers/virtio_net"],
    ["maybe_ethernet", { type: "1\n" }],
    ["unknown", { type: "32\n", speed: "100000\n" }, "../drivers/ib_ipoib"],
  ];
  for (const [type, files, driver] of cases) {
    const machine = withInterface(files, driver);
    equal(await linuxInterfaceType(machine, "x"), type, JSON.stringify(files));
  }
});

Deno.test("what has no device behind it is not known: loopback, bridges, tunnels", async () => {
  const machine = new FakeMachine();
  machine.files.set("/sys/class/net/docker0/type", "1\n");
  machine.files.set("/sys/class/net/docker0/speed", "10000\n");
  equal(await linuxInterfaceType(machine, "docker0"), "unknown");
  equal(await linuxInterfaceType(machine, "gone"), "unknown");
});

Deno.test("all addresses are told, in an order that does not depend on the system's", async () => {
  const machine = withInterface({ type: "1\n", speed: "1000\n" });
  const addresses = [
    { name: "x", address: "fe80::1" },
    { name: "lo", address: "127.0.0.1" },
    { name: "x", address: "10.0.0.1" },
  ];
  const expected = [
    { name: "lo", ipAddress: "127.0.0.1", interfaceType: "unknown" },
    { name: "x", ipAddress: "10.0.0.1", interfaceType: "ethernet" },
    { name: "x", ipAddress: "fe80::1", interfaceType: "ethernet" },
  ];
  for (const order of [addresses, addresses.toReversed()]) {
    machine.addresses = order;
    deepEqual(await networkInterfaces(machine, portsOf(machine)), expected);
  }
});

Deno.test("no more addresses are told than a fact may hold", async () => {
  const machine = new FakeMachine();
  machine.addresses = Array.from({ length: INTERFACES_MAX + 1 }, (_, n) => ({
    name: `veth${n}`,
    address: `10.0.${n >> 8}.${n & 255}`,
  }));
  equal((await networkInterfaces(machine, portsOf(machine))).length, INTERFACES_MAX);
});

Deno.test("a Mac's interfaces go by its ports, and those of other systems are not known", async () => {
  const machine = new FakeMachine();
  machine.addresses = [{ name: "en0", address: "10.0.0.1" }, { name: "lo0", address: "::1" }];
  machine.commands.set("networksetup -listallhardwareports", "Hardware Port: Wi-Fi\nDevice: en0\n");
  const types = async () =>
    (await networkInterfaces(machine, portsOf(machine))).map((one) => one.interfaceType);
  machine.os = "darwin";
  deepEqual(await types(), ["wifi", "unknown"]);
  machine.os = "freebsd";
  deepEqual(await types(), ["unknown", "unknown"]);
});
