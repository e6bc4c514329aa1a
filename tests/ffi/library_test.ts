import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { nativeLayout } from "../../ffi/layout.ts";

/** Evaluates an expression over the room in a fresh process. */
function evaluate(expression: string, env: Record<string, string>): string {
  const mod = new URL("../../ffi/mod.ts", import.meta.url).href;
  const source = `import * as mx from ${JSON.stringify(mod)};
try { console.log(${expression}); } catch (error) { console.log(error.message, error.hint); }`;
  const args = ["eval", "--quiet", `--config=${fileURLToPath(CONFIG)}`, source];
  const output = new Deno.Command(Deno.execPath(), { args, env }).outputSync();
  return new TextDecoder().decode(output.stdout) + new TextDecoder().decode(output.stderr);
}

const CONFIG = new URL("../../deno.json", import.meta.url);

Deno.test("a missing library is an error that lists what was tried and what to run", () => {
  const root = Deno.makeTempDirSync({ prefix: "exo-ffi-" });
  const said = evaluate("mx.ones([1])", { EXO_HOME: root, EXO_MLX_LIBRARY: "" });
  Deno.removeSync(root, { recursive: true });
  assert.match(said, /Cannot find the MLX shim .*EXO_MLX_LIBRARY \(not set\), \S+libmlx_shim/);
  assert.ok(said.includes(root));
  assert.match(said, /deno task setup/);
});

Deno.test("EXO_MLX_LIBRARY names another library, and is told when it is missing or wrong", () => {
  const missing = evaluate("mx.ones([1])", { EXO_MLX_LIBRARY: "/nowhere/libx.so" });
  assert.match(missing, /nothing at "\/nowhere\/libx\.so", which EXO_MLX_LIBRARY names/);
  const wrong = evaluate("mx.ones([1])", { EXO_MLX_LIBRARY: fileURLToPath(import.meta.url) });
  assert.match(wrong, /Cannot load the MLX shim .*unset EXO_MLX_LIBRARY/);
});

Deno.test("importing the room opens no library", () => {
  const said = evaluate("typeof mx.ones", { EXO_MLX_LIBRARY: "/nowhere/libx.so" });
  assert.equal(said.trim(), "function");
});

Deno.test("EXO_HOME is joined to the home folder, or replaces all if it is absolute", () => {
  const found = (own: string) =>
    evaluate("(() => { try { mx.findLibrary() } catch (e) { return e.message } })()", {
      EXO_MLX_LIBRARY: "",
      EXO_HOME: own,
      HOME: "/home-of-nobody",
    });
  assert.match(found(".own"), /\/home-of-nobody\/\.own\/native\/shim-[0-9a-f]{16}\//);
  assert.match(found("/elsewhere"), / \/elsewhere\/native\/shim-/);
});

Deno.test("the layout puts the wheels beside the library, each by its own stamp", () => {
  const { root, wheelsDir, libraryDir, devicePath, stamp } = nativeLayout();
  assert.match(wheelsDir.slice(root.length), /^.wheels-[0-9a-f]{16}$/);
  assert.equal(libraryDir, join(root, `shim-${stamp}`));
  assert.equal(devicePath, join(libraryDir, "device.json"));
});
