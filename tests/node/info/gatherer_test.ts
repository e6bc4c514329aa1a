import { deepEqual, equal } from "node:assert/strict";
import type { Event } from "../../../core/events.ts";
import type { RunnerId } from "../../../core/ids.ts";
import type { NodeInfo } from "../../../core/node_info.ts";
import type { NodeDisk, NodeSystem } from "../../../core/telemetry.ts";
import { NodeInfoGatherer } from "../../../node/info/gatherer.ts";
import { A } from "../../support/fixtures.ts";
import { FakeMachine, golden } from "../../support/fake_machine.ts";

const INFO: NodeInfo = {
  friendlyName: "box",
  machineModel: "Unknown",
  chipId: "x86_64",
  osVersion: "linux 6.1.0",
  osBuildVersion: "6.1.0",
  exoVersion: "1",
  backends: [],
};

/** A node's gatherer on a machine; `facts` and `measured` are what it has told. */
async function gathering(
  machine: FakeMachine,
  started: { isNamed?: boolean; info?: Partial<NodeInfo> } = {},
) {
  const facts: Event[] = [];
  const measured: { disk?: NodeDisk; system?: NodeSystem }[] = [];
  const loaded: RunnerId[] = [];
  const gatherer = new NodeInfoGatherer({
    nodeId: A,
    modelsFolder: "/models",
    report: (event) => {
      facts.push(event);
      return Promise.resolve();
    },
    measured: (values) => measured.push(values),
    loadedRunners: () => loaded,
    sources: machine,
  });
  const { isNamed = false, info } = started;
  await gatherer.watchGpu();
  gatherer.start({ incarnation: 3, info: { ...INFO, ...info }, isNamed });
  await machine.pass();
  const disks = () => measured.flatMap(({ disk }) => disk ?? []);
  return {
    gatherer,
    facts,
    measured,
    loaded,
    disks,
    [Symbol.asyncDispose]: () => gatherer.stop(),
  };
}

Deno.test("interfaces are a fact when they change, in whatever order the system lists them", async () => {
  const machine = new FakeMachine();
  const [one, two] = [{ name: "a", address: "10.0.0.1" }, { name: "b", address: "::1" }];
  machine.addresses = [one, two];
  await using here = await gathering(machine);
  const interfaces = [
    { name: "a", ipAddress: "10.0.0.1", interfaceType: "unknown" },
    { name: "b", ipAddress: "::1", interfaceType: "unknown" },
  ];
  const fact = (list: unknown) => ({
    type: "NodeGatheredInfo",
    nodeId: A,
    incarnation: 3,
    info: { type: "NodeNetworkInterfaces", interfaces: list },
  });
  deepEqual(here.facts, [fact(interfaces)]);
  machine.addresses = [two, one];
  await machine.pass(60_000);
  equal(here.facts.length, 1);
  machine.addresses = [two];
  await machine.pass(10_000);
  deepEqual(here.facts.slice(1), [fact(interfaces.slice(1))]);
});

Deno.test("another name of the machine is a fact, unless its user has given the node one", async () => {
  const [free, named] = [new FakeMachine(), new FakeMachine()];
  await using first = await gathering(free);
  await using second = await gathering(named, { isNamed: true });
  for (const machine of [free, named]) {
    machine.host = "crate";
    await machine.pass(60_000);
  }
  const names = (facts: readonly Event[]) =>
    facts.flatMap((event) =>
      event.type === "NodeGatheredInfo" && event.info.type === "MiscData"
        ? [event.info.friendlyName]
        : []
    );
  deepEqual(names(first.facts), ["crate"]);
  deepEqual(names(second.facts), []);
});

Deno.test("what a Mac was too slow to say when the node started becomes known later", async () => {
  const machine = new FakeMachine();
  machine.os = "darwin";
  const profile = "system_profiler SPHardwareDataType";
  const identities = (facts: readonly Event[]) =>
    facts.filter((event) =>
      event.type === "NodeGatheredInfo" && event.info.type === "StaticNodeInformation"
    );
  const info = { osVersion: "darwin 6.1.0", osBuildVersion: "Unknown" };
  await using here = await gathering(machine, { info, isNamed: true });
  deepEqual(identities(here.facts), []);
  machine.commands.set(profile, await golden("mac_hardware.txt"));
  await machine.pass(60_000);
  deepEqual(identities(here.facts).map((event) => "info" in event && event.info), [{
    type: "StaticNodeInformation",
    machineModel: "Mac Studio",
    chipId: "Apple M3 Ultra",
    ...info,
  }]);
  const asked = () => machine.ran.filter((words) => words === profile).length;
  const before = asked();
  await machine.pass(600_000);
  equal(asked(), before, "now it is known");
});

Deno.test("the disk is measured every 30 s; one that does not answer is asked once", async () => {
  const machine = new FakeMachine();
  await using here = await gathering(machine);
  deepEqual(here.disks(), [{ totalBytes: 100, availableBytes: 50 }]);
  machine.diskFree = 40;
  await machine.pass(30_000);
  deepEqual(here.disks().map((disk) => disk.availableBytes), [50, 40]);
  let askCount = 0;
  let answer = (_: NodeDisk) => {};
  machine.disk = () => {
    askCount++;
    return new Promise((resolve) => answer = resolve);
  };
  await machine.pass(120_000);
  equal(askCount, 1);
  answer({ totalBytes: 100, availableBytes: 45 });
  machine.disk = () => Promise.resolve({ totalBytes: 100, availableBytes: 30 });
  await machine.pass(40_000);
  deepEqual(here.disks().map((disk) => disk.availableBytes), [50, 40, 30]);
});

Deno.test("how busy the machine is is handed on once something is known of it", async () => {
  const machine = new FakeMachine();
  await using here = await gathering(machine);
  const systems = () => here.measured.flatMap(({ system }) => system?.cpuUsage ?? []);
  machine.files.set("/proc/stat", "cpu0 0 0 0 0\n");
  await machine.pass(5_000);
  equal(here.measured.some(({ system }) => system), false, "there is nothing to say");
  machine.files.set("/proc/stat", "cpu0 1 0 0 1\n");
  await machine.pass(5_000);
  deepEqual(systems(), [0.5]);
});

Deno.test("a GPU's memory and figures are those of its newest sample", async () => {
  const machine = new FakeMachine();
  const smi =
    "nvidia-smi --id=0 --query-gpu=memory.total,memory.free,utilization.gpu,temperature.gpu," +
    "power.draw --format=csv,noheader,nounits";
  machine.commands.set(smi, "100, 60, 50, 40, 30\n").set(`${smi} --loop-ms=2000`, "");
  await using here = await gathering(machine);
  deepEqual(here.gatherer.memory(), {
    gpu: { totalBytes: 100 * 2 ** 20, availableBytes: 60 * 2 ** 20 },
    loadedRunners: [],
  });
  machine.say("nvidia-smi", "100, 10, 75, 50, 60");
  const { system } = here.measured.at(-1) ?? {};
  deepEqual(
    [system?.gpuUsage, system?.gpuTemperatureCelsius, system?.powerWatts],
    [0.75, 50, 60],
  );
});

Deno.test("without a GPU all loaded runners are in the machine's memory", async () => {
  await using here = await gathering(new FakeMachine());
  deepEqual(here.gatherer.memory(), { loadedRunners: here.loaded });
});

Deno.test("a gatherer that is stopped leaves no timer, no process, and tells no more", async () => {
  const machine = new FakeMachine();
  machine.os = "darwin";
  const sample = await golden("macmon_0_8.json");
  machine.commands.set("macmon pipe --samples 1 --interval 100", sample);
  machine.commands.set("macmon pipe --interval 5000", "");
  machine.diskFree = undefined;
  const here = await gathering(machine);
  equal(machine.followers.size, 1);
  await here.gatherer.stop();
  deepEqual([machine.waitCount, machine.followers.size], [0, 0]);
  const told = here.facts.length + here.measured.length;
  machine.addresses = [{ name: "a", address: "10.0.0.1" }];
  await machine.pass(600_000);
  equal(here.facts.length + here.measured.length, told);
  here.gatherer.start({ incarnation: 4, info: INFO, isNamed: false });
  equal(machine.waitCount, 0, "nor does it start again");
});
