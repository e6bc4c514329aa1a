import assert from "node:assert/strict";
import { MIB } from "../../core/units.ts";
import type { Node } from "../../node/node.ts";
import { eventually } from "../support/eventually.ts";
import { FakeMachine } from "../support/fake_machine.ts";
import { TempDir } from "../support/temp_dir.ts";
import { startTestNode, type TestNodeOptions } from "../support/test_node.ts";

Deno.test("a node tells what its machine is, which addresses it has, and what is left", async () => {
  await using dir = await TempDir.make();
  const machine = new FakeMachine();
  machine.files.set("/sys/class/dmi/id/product_name", "ProLiant DL380 Gen11\n");
  machine.addresses = [{ name: "lo", address: "127.0.0.1" }];
  const node = await startTestNode(`${dir.path}/data`, {}, { sources: machine });
  const self = () => node.state().nodes.get(node.nodeId);
  assert.equal(self()?.info.machineModel, "ProLiant DL380 Gen11");
  await eventually(
    "it is known",
    () => self()?.network.length === 1 && node.telemetry().disk.has(node.nodeId),
  );
  const [address] = self()?.network ?? [];
  assert.deepEqual(address, { name: "lo", ipAddress: "127.0.0.1", interfaceType: "unknown" });
  const { disk, memory } = node.telemetry();
  assert.deepEqual(disk.get(node.nodeId), { totalBytes: 100, availableBytes: 50 });
  assert.deepEqual(memory.get(node.nodeId)?.loadedRunners, []);
  await node.stop();
  assert.equal(machine.waitCount, 0, "it looks at nothing any more");
});

/** A node on a machine whose GPU has 60 of 100 MiB free. */
async function startWithGpu(
  machine: FakeMachine,
  dataDir: string,
  options: TestNodeOptions = {},
): Promise<Node> {
  const smi =
    "nvidia-smi --id=0 --query-gpu=memory.total,memory.free,utilization.gpu,temperature.gpu," +
    "power.draw --format=csv,noheader,nounits";
  machine.commands.set(smi, "100, 60, 0, 40, 30\n").set(`${smi} --loop-ms=2000`, "");
  const backends = ["MlxCuda" as const];
  return await startTestNode(dataDir, {}, { ...options, backends, sources: machine });
}

Deno.test("before a node joins, the memory of its GPU is known", async () => {
  await using dir = await TempDir.make();
  const machine = new FakeMachine();
  const node = await startWithGpu(machine, `${dir.path}/data`);
  const gpu = () => node.telemetry().memory.get(node.nodeId)?.gpu;
  assert.deepEqual(gpu(), { totalBytes: 100 * MIB, availableBytes: 60 * MIB });
  machine.say("nvidia-smi", "100, 10, 0, 40, 30");
  assert.equal(gpu()?.availableBytes, 10 * MIB);
  await node.stop();
  assert.equal(machine.followers.size, 0);
});

Deno.test("on a machine that is said to have so much memory a GPU's does not count", async () => {
  await using dir = await TempDir.make();
  const machine = new FakeMachine();
  const node = await startWithGpu(machine, `${dir.path}/data`, { memoryBytes: MIB });
  const memory = { ramTotalBytes: MIB, ramAvailableBytes: MIB };
  assert.deepEqual(node.telemetry().memory.get(node.nodeId), memory);
  await node.stop();
});
