import assert from "node:assert/strict";
import { MIB } from "../../core/units.ts";
import { deviceFileOf, probeMemory, probeNode } from "../../node/probe.ts";
import { FakeMachine } from "../support/fake_machine.ts";
import { TempDir } from "../support/temp_dir.ts";

Deno.test("memory is a positive number of bytes, available not above total", () => {
  const { ramTotalBytes, ramAvailableBytes } = probeMemory();
  assert.ok(ramTotalBytes > 64 * MIB && ramAvailableBytes > 0);
  assert.ok(ramAvailableBytes <= ramTotalBytes);
});

Deno.test("memory that a machine is said to have is all that it has, and no more is free", () => {
  assert.deepEqual(probeMemory(MIB), { ramTotalBytes: MIB, ramAvailableBytes: MIB });
  const { ramTotalBytes, ramAvailableBytes } = probeMemory(1024 ** 5);
  assert.equal(ramTotalBytes, 1024 ** 5);
  assert.ok(ramAvailableBytes < ramTotalBytes);
});

Deno.test("a control group's limit is all that a node has", () => {
  const files: Record<string, string> = {
    "/proc/self/cgroup": "0::/\n",
    "/sys/fs/cgroup/memory.max": `${8 * MIB}`,
    "/sys/fs/cgroup/memory.current": `${3 * MIB}`,
  };
  const memory = probeMemory(undefined, (path) => files[path]);
  const { ramTotalBytes, ramAvailableBytes, swapTotalBytes = -1, swapAvailableBytes } = memory;
  assert.deepEqual([ramTotalBytes, ramAvailableBytes], [8 * MIB, 5 * MIB]);
  assert.ok(swapAvailableBytes !== undefined && swapAvailableBytes <= swapTotalBytes);
});

Deno.test("a node says its name, its system and what its device file lists", async () => {
  await using dir = await TempDir.make();
  const deviceFile = `${dir.path}/device.json`;
  await Deno.writeTextFile(
    deviceFile,
    JSON.stringify({
      backends: ["MlxCpu"],
      memoryBandwidthBytesPerSecond: 2e10,
      more: 1,
    }),
  );
  const info = await probeNode({ name: "desk", version: "1.2.3", deviceFile });
  assert.equal(info.friendlyName, "desk");
  assert.equal(info.exoVersion, "1.2.3");
  assert.deepEqual(info.backends, ["MlxCpu"]);
  assert.equal(info.memoryBandwidthBytesPerSecond, 2e10);
  const machine = new FakeMachine();
  machine.files.set("/etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12"\n');
  const unnamed = await probeNode({ version: "1", sources: machine });
  assert.equal(unnamed.friendlyName, machine.host);
  assert.equal(unnamed.osVersion, "Debian GNU/Linux 12");
  assert.equal(unnamed.osBuildVersion, machine.osRelease());
});

Deno.test("without a device file, or with a broken one, a node computes nothing", async () => {
  await using dir = await TempDir.make();
  const broken = `${dir.path}/device.json`;
  await Deno.writeTextFile(broken, '{"backends": ["Abacus"]}');
  for (const deviceFile of [undefined, `${dir.path}/missing`, broken]) {
    assert.deepEqual((await probeNode({ version: "1", deviceFile })).backends, []);
  }
});

Deno.test("the device file lies beside the library", () => {
  assert.equal(deviceFileOf("/cache/mlx/libexo.so"), "/cache/mlx/device.json");
});
