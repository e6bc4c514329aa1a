import { deepEqual, equal, rejects } from "node:assert/strict";
import { parseHardwarePorts } from "../../../node/info/hardware_ports.ts";
import {
  parseBridgeMembers,
  parseBridgeServices,
  parseRdmaStatus,
  parseServiceEnabled,
  thunderboltBridge,
} from "../../../node/info/thunderbolt_bridge.ts";
import { golden } from "../../support/fake_machine.ts";

const ports = async () => parseHardwarePorts(await golden("mac_hardware_ports.txt"));
const ORDER = "networksetup -listnetworkserviceorder";
const ENABLED = "networksetup -getnetworkserviceenabled Thunderbolt Bridge";

function asking(answers: Record<string, string>) {
  return (words: readonly string[]) => Promise.resolve(answers[words.join(" ")]);
}

Deno.test("bridges are found among the services, also those that are switched off", async () => {
  deepEqual(parseBridgeServices(await golden("mac_service_order.txt")), [
    { serviceName: "Virtual Bridge", device: "bridge1" },
    { serviceName: "Thunderbolt Bridge", device: "bridge0" },
  ]);
  deepEqual(parseBridgeMembers(await golden("mac_ifconfig_bridge0.txt")), ["en2", "en3"]);
});

Deno.test("words for on and off are told apart, others say nothing", () => {
  deepEqual(["Enabled\n", "Disabled\n", "?"].map(parseServiceEnabled), [true, false, undefined]);
  deepEqual(["enabled\n", "RDMA is disabled", "?"].map(parseRdmaStatus), [true, false, undefined]);
});

Deno.test("the bridge is the first with a Thunderbolt port in it", async () => {
  const answers = {
    [ORDER]: await golden("mac_service_order.txt"),
    "ifconfig bridge1": "bridge1: flags=8863<UP>\n\tmember: en9 flags=3<LEARNING,DISCOVER>\n",
    "ifconfig bridge0": await golden("mac_ifconfig_bridge0.txt"),
  };
  const bridge = { exists: true, serviceName: "Thunderbolt Bridge" };
  for (
    const [said, enabled] of [["Enabled\n", true], ["Disabled\n", false], ["?", false]] as const
  ) {
    const status = await thunderboltBridge(await ports(), asking({ ...answers, [ENABLED]: said }));
    deepEqual(status, { enabled, ...bridge });
  }
  deepEqual(await thunderboltBridge(await ports(), asking(answers)), { enabled: false, ...bridge });
});

Deno.test("without such a bridge there is none, and without an answer nothing is known", async () => {
  const none = { enabled: false, exists: false };
  const order = { [ORDER]: await golden("mac_service_order.txt") };
  deepEqual(await thunderboltBridge(await ports(), asking(order)), none);
  deepEqual(await thunderboltBridge(new Map(), asking(order)), none);
  await rejects(thunderboltBridge(await ports(), asking({})), /does not list/);
  equal((await thunderboltBridge(await ports(), asking({ [ORDER]: "" }))).exists, false);
});
