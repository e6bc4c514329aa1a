import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { explainPip } from "../../ffi/fetch.ts";
import { WHEELS } from "../../ffi/wheels.ts";

/** A wheel with one file, made by Python's own zip tool; returns its folder and hash. */
function tinyWheel(root: string): { folder: string; hash: string } {
  const folder = join(root, "index");
  const parts = ["tiny", "tiny-1.0.dist-info"].map((name) => join(root, name));
  for (const part of [folder, ...parts]) Deno.mkdirSync(part);
  const [content, info] = parts as [string, string];
  Deno.writeTextFileSync(join(content, "hello.txt"), "hello");
  Deno.writeTextFileSync(
    join(info, "METADATA"),
    "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
  );
  Deno.writeTextFileSync(
    join(info, "WHEEL"),
    "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
  );
  Deno.writeTextFileSync(join(info, "RECORD"), "");
  const file = join(folder, "tiny-1.0-py3-none-any.whl");
  const args = ["-m", "zipfile", "-c", file, ...parts];
  assert.ok(new Deno.Command("python3", { args }).outputSync().success);
  const hash = createHash("sha256").update(Deno.readFileSync(file)).digest("hex");
  return { folder, hash };
}

/** Fetches `tiny` in a process that knows only this environment's index; returns what it said. */
function fetchTiny(root: string, sha256: string, env: Record<string, string>): string {
  const target = Deno.makeTempDirSync({ dir: root });
  const module = fileURLToPath(new URL("../../ffi/fetch.ts", import.meta.url));
  const wheels = JSON.stringify([{ name: "tiny", version: "1.0", sha256: [sha256] }]);
  const source = `import { fetchWheels } from ${JSON.stringify(`file://${module}`)};
try { await fetchWheels(${wheels}, ${JSON.stringify(target)}); }
catch (error) { console.log(error.message + "\\nHINT " + error.hint); }
for (const { name } of Deno.readDirSync(${JSON.stringify(target)})) console.log("FILE " + name);`;
  const script = join(root, "fetch.ts");
  Deno.writeTextFileSync(script, source);
  const args = ["run", "--quiet", "--no-config", "--no-lock", "-A", script];
  const output = new Deno.Command(Deno.execPath(), { args, env }).outputSync();
  return new TextDecoder().decode(output.stdout) + new TextDecoder().decode(output.stderr);
}

Deno.test("fetchWheels() unpacks a wheel with the pinned hash, and refuses it with another", () => {
  const root = Deno.makeTempDirSync({ prefix: "exo-ffi-" });
  try {
    const { folder, hash } = tinyWheel(root);
    const env = { PIP_NO_INDEX: "1", PIP_FIND_LINKS: folder };
    const files = fetchTiny(root, hash, env).trim().split("\n").sort();
    assert.deepEqual(files, ["FILE tiny", "FILE tiny-1.0.dist-info"]);
    const refused = fetchTiny(root, "0".repeat(64), env);
    assert.match(
      refused,
      /^Cannot fetch tiny 1\.0 with pip: found a file with other bytes, those pinned/,
    );
    assert.match(refused, new RegExp(`Got +${hash}`));
    assert.match(refused, /HINT do not use that file/);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});

Deno.test("fetchWheels() without a network says so, and how to name a mirror", () => {
  const root = Deno.makeTempDirSync({ prefix: "exo-ffi-" });
  try {
    const nowhere = "http://127.0.0.1:9/simple"; // The discard port: nobody listens.
    const env = { PIP_INDEX_URL: nowhere, PIP_RETRIES: "1", PIP_CONFIG_FILE: "/dev/null" };
    const refused = fetchTiny(root, "0".repeat(64), env);
    assert.match(refused, /^Cannot fetch tiny 1\.0 with pip: the package index cannot be reached/);
    assert.match(refused, /HINT .*PIP_INDEX_URL/);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});

Deno.test("explainPip() names the system that no wheel fits", () => {
  const stderr = "ERROR: No matching distribution found for mlx-cpu==0.32.4";
  const { message, hint } = explainPip(WHEELS.cpu, stderr, "glibc 2.31");
  assert.match(message, /^Cannot fetch mlx-cpu 0\.32\.4 and scipy-openblas32 .* has glibc 2\.31;/);
  assert.match(hint, /Debian 12/);
});

Deno.test("explainPip() passes on what it does not know", () => {
  const { message, hint } = explainPip(WHEELS.cpu, "ERROR: something new", "");
  assert.match(message, /pip failed, its download needed\nERROR: something new$/);
  assert.match(hint, /pip download --no-deps mlx-cpu==0\.32\.4/);
});
