import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import "./support.ts";

Deno.test("the example runs, and frees all but what it keeps", () => {
  const script = fileURLToPath(new URL("../../ffi/example.ts", import.meta.url));
  const args = ["run", "--quiet", "-A", script];
  const { success, stdout } = new Deno.Command(Deno.execPath(), { args }).outputSync();
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  assert.ok(success);
  assert.match(lines[0] ?? "", /^Energies: 1\.000( \d\.\d{3}){31}$/);
  assert.equal(lines[1], "Native arrays alive: 1");
});
