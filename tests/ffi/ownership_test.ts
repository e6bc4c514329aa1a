import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import "./support.ts";

/** Forgets tensors and asks for garbage collection; prints how many native arrays are left. */
const SOURCE = (mod: string) =>
  `import * as mx from ${JSON.stringify(mod)};
(() => { for (let i = 0; i < 100; i++) mx.ones([1]); })();
(() => { using scope = new mx.Scope(); for (let i = 0; i < 10; i++) mx.ones([1]).keep(); })();
const made = mx.liveArrays();
for (let turn = 0; turn < 100 && mx.liveArrays() > 0; turn++) {
  gc();
  await new Promise((resolve) => setTimeout(resolve, 0));
}
console.log(made, mx.liveArrays());`;

Deno.test("tensors that nobody holds are freed by the garbage collector, as a last resort", () => {
  const mod = new URL("../../ffi/mod.ts", import.meta.url).href;
  const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
  const args = ["eval", "--quiet", `--config=${config}`, "--v8-flags=--expose-gc", SOURCE(mod)];
  const { stdout, stderr } = new Deno.Command(Deno.execPath(), { args }).outputSync();
  const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert.equal(said.trim(), "110 0");
});
