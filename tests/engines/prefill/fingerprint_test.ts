import assert from "node:assert/strict";
import { weightsFingerprint } from "../../../engines/prefill/fingerprint.ts";
import { TempDir } from "../../support/temp_dir.ts";

Deno.test("equal files have equal fingerprints, wherever they lie; others have others", async () => {
  await using dir = await TempDir.make();
  const write = async (name: string, bytes: Uint8Array) => {
    await Deno.writeFile(`${dir.path}/${name}`, bytes);
    return weightsFingerprint(`${dir.path}/${name}`);
  };
  const bytes = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * i) >> 7);
  const own = await write("a", bytes);
  assert.equal(await write("b", bytes), own);
  assert.notEqual(await write("c", bytes.slice(1)), own);
  const last = bytes.slice();
  last[last.length - 1] = (last[last.length - 1] ?? 0) ^ 1;
  assert.notEqual(await write("d", last), own);
  assert.match(await write("e", new Uint8Array()), /^[0-9a-f]{32}$/);
});

Deno.test("of a folder the files count that weights are read from, by their names", async () => {
  await using dir = await TempDir.make();
  const folder = async (name: string, files: Record<string, string>) => {
    await Deno.mkdir(`${dir.path}/${name}`);
    for (const [file, text] of Object.entries(files)) {
      await Deno.writeTextFile(`${dir.path}/${name}/${file}`, text);
    }
    return weightsFingerprint(`${dir.path}/${name}`);
  };
  const own = await folder("a", { "config.json": "{}", "model.safetensors": "w" });
  const beside = { "README.md": "hello", "tokenizer.json": "[]", "consolidated.safetensors": "w" };
  const files = { "model.safetensors": "w", "config.json": "{}", ...beside };
  assert.equal(await folder("b", files), own);
  assert.notEqual(await folder("c", { "config.json": "{ }", "model.safetensors": "w" }), own);
  assert.notEqual(await folder("d", { "config.json": "w", "model.safetensors": "{}" }), own);
  const index = JSON.stringify({ weight_map: { w: "a-1.safetensors", v: "a-2.safetensors" } });
  const parts = { "config.json": "{}", "model.safetensors.index.json": index };
  const indexed = { ...parts, "a-1.safetensors": "w", "a-2.safetensors": "v" };
  const whole = await folder("e", { ...indexed, "model.safetensors": "x" });
  assert.equal(await folder("f", indexed), whole);
  assert.notEqual(await folder("g", { ...indexed, "a-2.safetensors": "w" }), whole);
});
