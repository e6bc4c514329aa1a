import assert from "node:assert/strict";
import { MIB } from "../../core/units.ts";
import { deviceFileOf, probeMemory, probeNode } from "../../node/probe.ts";
import { TempDir } from "../support/temp_dir.ts";

/** Runs `body` with `OVERRIDE_MEMORY_MB` set, and puts back what was there. */
function withOverride(value: string, body: () => void): void {
  const before = Deno.env.get("OVERRIDE_MEMORY_MB");
  Deno.env.set("OVERRIDE_MEMORY_MB", value);
  try {
    body();
  } finally {
    if (before === undefined) Deno.env.delete("OVERRIDE_MEMORY_MB");
    else Deno.env.set("OVERRIDE_MEMORY_MB", before);
  }
}

Deno.test("memory is a positive number of bytes, available not above total", () => {
  withOverride("", () => {
    const { ramTotalBytes, ramAvailableBytes } = probeMemory();
    assert.ok(ramTotalBytes > 64 * MIB && ramAvailableBytes > 0);
    assert.ok(ramAvailableBytes <= ramTotalBytes);
  });
});

Deno.test("OVERRIDE_MEMORY_MB caps what is there, and nonsense in it counts for nothing", () => {
  const real = probeMemory().ramTotalBytes;
  withOverride("1", () => {
    assert.deepEqual(probeMemory(), { ramTotalBytes: MIB, ramAvailableBytes: MIB });
  });
  for (const value of ["lots", "-5", "0"]) {
    withOverride(value, () => assert.equal(probeMemory().ramTotalBytes, real, value));
  }
});

Deno.test("a node says its name, its system and what its device file lists", async () => {
  await using dir = await TempDir.make();
  const deviceFile = `${dir.path}/device.json`;
  await Deno.writeTextFile(deviceFile, JSON.stringify({ backends: ["MlxCpu"], more: 1 }));
  const info = await probeNode({ name: "desk", version: "1.2.3", deviceFile });
  assert.equal(info.friendlyName, "desk");
  assert.equal(info.exoVersion, "1.2.3");
  assert.deepEqual(info.backends, ["MlxCpu"]);
  assert.match(info.osVersion, new RegExp(`^${Deno.build.os} .`));
  const unnamed = await probeNode({ version: "1" });
  assert.equal(unnamed.friendlyName, Deno.hostname());
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
