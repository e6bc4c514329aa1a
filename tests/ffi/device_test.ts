import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import * as mx from "../../ffi/mod.ts";
import "./support.ts";

Deno.test("MLX is the version that is pinned, and names its device", () => {
  assert.equal(mx.mlxVersion(), "0.32.4");
  const info = mx.deviceInfo();
  assert.match(String(info["type"]), /^(cpu|gpu)$/);
  assert.equal(typeof info["device_name"], "string");
});

Deno.test("a device that is not there is refused", () => {
  assert.throws(() => mx.setDefaultDevice("gpu", 99), /no such device: gpu 99/);
  assert.throws(() => mx.watchParent(4095), /file descriptor 4095 is not open/);
});

function startChild(mode: string): ChildProcess {
  const script = fileURLToPath(new URL("watch_child.ts", import.meta.url));
  const args = ["run", "--quiet", "-A", script, mode];
  return spawn(Deno.execPath(), args, { stdio: ["ignore", "pipe", "inherit", "pipe"] });
}

for (const mode of ["a busy loop", "native code"]) {
  Deno.test(`a process that watches its parent ends with it, deep in ${mode}`, async () => {
    const child = startChild(mode);
    try {
      assert.ok(child.stdout);
      const [word] = await once(child.stdout, "data");
      assert.equal(String(word).trim(), "watching");
      const pipe = child.stdio[3] as Writable;
      // Data that nobody reads are not taken for a hang-up, nor do they hide one.
      await new Promise((resolve) => pipe.write("unread", resolve));
      const closedAt = performance.now();
      pipe.destroy();
      const [code] = await once(child, "exit");
      assert.equal(code, 113);
      assert.ok(performance.now() - closedAt < 2000);
    } finally {
      child.kill("SIGKILL");
    }
  });
}
