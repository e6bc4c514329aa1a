import { deepEqual, equal } from "node:assert/strict";
import type { GatheredInfo } from "../../../core/node_info.ts";
import { HardwarePorts } from "../../../node/info/hardware_ports.ts";
import { CABLES_IDLE_MS, CABLES_MS, watchCables } from "../../../node/info/mac_cables.ts";
import { FakeMachine, golden } from "../../support/fake_machine.ts";

const PROFILE = "system_profiler SPThunderboltDataType -json";

async function mac(): Promise<FakeMachine> {
  const machine = new FakeMachine();
  machine.os = "darwin";
  const commands = {
    [PROFILE]: "mac_thunderbolt.json",
    "networksetup -listallhardwareports": "mac_hardware_ports.txt",
    "networksetup -listnetworkserviceorder": "mac_service_order.txt",
    "ifconfig bridge0": "mac_ifconfig_bridge0.txt",
  };
  for (const [words, file] of Object.entries(commands)) {
    machine.commands.set(words, await golden(file));
  }
  return machine;
}

function watched(machine: FakeMachine) {
  const stop = new AbortController();
  const told: GatheredInfo[] = [];
  const { signal } = stop;
  const gathering = { sources: machine, signal, tell: (info: GatheredInfo) => told.push(info) };
  const ended = watchCables(gathering, new HardwarePorts(machine, signal));
  const looks = () => machine.ran.filter((words) => words === PROFILE).length;
  return { stop, told, ended, looks };
}

Deno.test("where RDMA is on, cables are looked at every five seconds", async () => {
  const machine = await mac();
  machine.commands.set("rdma_ctl status", "enabled\n");
  const { stop, told, ended, looks } = watched(machine);
  await machine.pass();
  deepEqual(told.map(({ type }) => type).toSorted(), [
    "MacThunderboltConnections",
    "MacThunderboltIdentifiers",
    "RdmaCtlStatus",
    "ThunderboltBridgeInfo",
  ]);
  const bridge = told.find(({ type }) => type === "ThunderboltBridgeInfo");
  deepEqual(bridge, {
    type: "ThunderboltBridgeInfo",
    status: { enabled: false, exists: true, serviceName: "Thunderbolt Bridge" },
  });
  await machine.pass(2 * CABLES_MS);
  equal(looks(), 3);
  stop.abort();
  await ended;
  equal(machine.waitCount, 0);
});

Deno.test("where it is off or not known of, once a minute", async () => {
  for (const status of ["disabled\n", undefined]) {
    const machine = await mac();
    if (status !== undefined) machine.commands.set("rdma_ctl status", status);
    const { stop, told, ended, looks } = watched(machine);
    await machine.pass(CABLES_IDLE_MS);
    equal(looks(), 2);
    const rdma = told.filter(({ type }) => type === "RdmaCtlStatus");
    deepEqual(rdma[0], status && { type: "RdmaCtlStatus", enabled: false });
    const asked = machine.ran.filter((words) => words === "rdma_ctl status").length;
    equal(asked, status === undefined ? 1 : 7, "a program that is not there is not sought again");
    stop.abort();
    await ended;
  }
});

Deno.test("what fails once is looked at again, and nothing is told of it", async () => {
  const machine = await mac();
  machine.commands.set("rdma_ctl status", {
    ok: false,
    isMissing: false,
    reason: "it ended with 1",
  });
  machine.commands.delete(PROFILE);
  machine.commands.delete("networksetup -listnetworkserviceorder");
  const { stop, told, ended, looks } = watched(machine);
  await machine.pass();
  deepEqual(told, []);
  machine.commands.set("rdma_ctl status", "no idea\n");
  machine.commands.set(PROFILE, await golden("mac_thunderbolt_hub.json"));
  await machine.pass(CABLES_IDLE_MS);
  equal(looks(), 2);
  deepEqual(told.map(({ type }) => type), [
    "MacThunderboltIdentifiers",
    "MacThunderboltConnections",
  ]);
  stop.abort();
  await ended;
});
