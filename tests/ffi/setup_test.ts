import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DeviceFacts } from "../../ffi/probe.ts";
import { ensureSetup } from "../../ffi/setup.ts";
import { nativeLayout, stampOf } from "../../ffi/layout.ts";
import "./support.ts";

/** What `setup_child.ts` prints. */
interface Outcome {
  libraryPath?: string;
  message?: string;
  hint?: string;
  lines: string[];
}

/** A cache folder and a folder of programs, both empty but for what a test puts there. */
interface World {
  home: string;
  bin: string;
  env: Record<string, string>;
}

async function inWorld(body: (world: World) => Promise<void>): Promise<void> {
  const root = Deno.makeTempDirSync({ prefix: "exo-ffi-" });
  const [home, bin] = [join(root, "home"), join(root, "bin")];
  Deno.mkdirSync(bin);
  try {
    await body({
      home,
      bin,
      env: { EXO_HOME: home, PATH: bin, CXX: "", EXO_MLX: "", EXO_MLX_LIBRARY: "" },
    });
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
}

/** A program of a few shell lines, which does not need PATH. */
function program({ bin }: World, name: string, lines: string): string {
  const path = join(bin, name);
  Deno.writeTextFileSync(path, `#!/bin/sh\n${lines}\n`);
  Deno.chmodSync(path, 0o755);
  return path;
}

/** Puts the wheels of this machine into the world's cache. */
function linkWheels({ home }: World): void {
  const { wheelsDir } = nativeLayout();
  Deno.mkdirSync(join(home, "native"), { recursive: true });
  Deno.symlinkSync(wheelsDir, join(home, "native", basename(wheelsDir)));
}

/** A compiler that takes all and makes empty files. */
const COMPILER = `
case "$*" in *-version) echo "fake c++ 1.0";; esac
while [ $# -gt 0 ]; do
  if [ "$1" = -o ]; then : > "$2"; fi
  shift
done`;

async function setUp(
  env: Record<string, string>,
  options: { probe?: string; permissions?: string[] } = {},
): Promise<Outcome> {
  const script = fileURLToPath(new URL("setup_child.ts", import.meta.url));
  const flags = ["run", "--quiet", ...(options.permissions ?? ["-A"]), script];
  const args = [...flags, ...(options.probe ? [options.probe] : [])];
  const output = await new Deno.Command(Deno.execPath(), { args, env }).output();
  assert.equal(new TextDecoder().decode(output.stderr), "");
  return JSON.parse(new TextDecoder().decode(output.stdout));
}

Deno.test("setup that is up to date starts no process and writes nothing", async () => {
  const { root } = nativeLayout();
  const names = () => [...Deno.readDirSync(root)].map(({ name }) => name).sort();
  const before = names();
  // Without the permissions to run and to write, either would fail.
  const permissions = ["--allow-read", "--allow-env", "--allow-sys"];
  const { lines, message } = await setUp({}, { permissions });
  assert.deepEqual([lines, message], [[], undefined]);
  assert.deepEqual(names(), before);
});

Deno.test("setup in this process gives the library and its stamp, the same each time", async () => {
  const first = await ensureSetup();
  assert.deepEqual(await ensureSetup(), first);
  assert.ok(first.libraryPath.includes(first.stamp));
  assert.match(first.stamp, /^[0-9a-f]{16}$/);
});

Deno.test("the stamp of the library changes with any flag of any source, and of linking", () => {
  const { stamp, wheelsDir, commands } = nativeLayout();
  const wheelsStamp = basename(wheelsDir).replace("wheels-", "");
  assert.equal(stampOf(wheelsStamp, commands), stamp);
  const without = (command: readonly string[], index: number) =>
    command.filter((_, i) => i !== index);
  const stamps = commands.objects.flatMap((command, at) =>
    command.map((_, index) => {
      const objects = commands.objects.map((each, i) => i === at ? without(each, index) : each);
      return stampOf(wheelsStamp, { ...commands, objects });
    })
  );
  const linked = commands.link.map((_, index) =>
    stampOf(wheelsStamp, { ...commands, link: without(commands.link, index) })
  );
  const all = [stamp, ...stamps, ...linked];
  assert.equal(new Set(all).size, all.length);
});

Deno.test("setup leaves a library that EXO_MLX_LIBRARY names to whoever named it", async () => {
  await inWorld(async ({ env }) => {
    const outcome = await setUp({ ...env, EXO_MLX_LIBRARY: "/some/libmlx_shim.so" });
    assert.deepEqual([outcome.libraryPath, outcome.lines], ["/some/libmlx_shim.so", []]);
  });
});

Deno.test("device.json tells what the probe found", () => {
  const facts: DeviceFacts = JSON.parse(Deno.readTextFileSync(nativeLayout().devicePath));
  assert.ok(facts.backends.includes("MlxCpu"));
  assert.equal(facts.mlxVersion, "0.32.4");
  assert.ok(facts.memoryBytes > 2 ** 30);
  assert.ok(facts.memoryBandwidthBytesPerSecond > 1e8);
  assert.equal(typeof facts.device["device_name"], "string");
});

Deno.test("with the wheels there, setup compiles, probes and leaves one whole folder", async () => {
  await inWorld(async (world) => {
    linkWheels(world);
    const env = { ...world.env, CXX: program(world, "cxx", COMPILER) };
    const probe = program(world, "probe", `echo "{\\"library\\": \\"$EXO_MLX_LIBRARY\\"}"`);
    const { lines, libraryPath } = await setUp(env, { probe });
    assert.deepEqual(lines, ["Compiling the shim", "Probing the device"]);
    assert.ok(libraryPath?.startsWith(world.home));
    const names = [...Deno.readDirSync(join(world.home, "native"))].map(({ name }) => name);
    assert.deepEqual(names.filter((name) => !name.startsWith("wheels-")).length, 1);
    const again = await setUp(env, { probe });
    assert.deepEqual([again.lines, again.libraryPath], [[], libraryPath]);
  });
});

Deno.test("the compiler is told what the stamp counts, and no more", async () => {
  await inWorld(async (world) => {
    linkWheels(world);
    const told = join(world.home, "told.txt");
    const cxx = program(world, "cxx", `echo "$*" >> "${told}"${COMPILER}`);
    await setUp({ ...world.env, CXX: cxx }, { probe: program(world, "probe", "echo {}") });
    const asked = Deno.readTextFileSync(told).trim().split("\n")
      .filter((line) => !/--version|-fsyntax-only/.test(line)); // Nothing is made by these.
    const { objects, link } = nativeLayout().commands;
    assert.deepEqual(asked.sort(), [...objects, link].map((args) => args.join(" ")).sort());
  });
});

Deno.test("two setups at the same time end with one library and no leftovers", async () => {
  await inWorld(async (world) => {
    linkWheels(world);
    const env = { ...world.env, CXX: program(world, "cxx", COMPILER) };
    const probe = program(world, "probe", "echo {}");
    const [one, two] = await Promise.all([setUp(env, { probe }), setUp(env, { probe })]);
    assert.equal(one.message ?? two.message, undefined);
    assert.equal(one.libraryPath, two.libraryPath);
    const names = [...Deno.readDirSync(join(world.home, "native"))].map(({ name }) => name);
    assert.equal(names.length, 2, names.join(" "));
  });
});

Deno.test("a setup that fails leaves no half of a folder and tells what it heard", async () => {
  await inWorld(async (world) => {
    linkWheels(world);
    const env = { ...world.env, CXX: program(world, "cxx", COMPILER) };
    const probe = program(world, "probe", "echo 'libcuda.so.1: not found' >&2; exit 1");
    const { message, hint } = await setUp(env, { probe });
    assert.match(message ?? "", /Cannot use MLX on this machine: .*\nlibcuda.so.1: not found/);
    assert.match(hint ?? "", /EXO_MLX=cpu/);
    const names = [...Deno.readDirSync(join(world.home, "native"))].map(({ name }) => name);
    assert.equal(names.length, 1, names.join(" "));
  });
});

Deno.test("setup without Python names it, and the command that installs it", async () => {
  await inWorld(async (world) => {
    const { message, hint } = await setUp(world.env);
    assert.match(message ?? "", /^Cannot fetch MLX: found no program "python3"/);
    assert.match(hint ?? "", /^install it with: (sudo|brew) .*python/);
  });
});

Deno.test("setup without pip names it, and the Python that lacks it", async () => {
  await inWorld(async (world) => {
    program(world, "python3", '[ "$1" = --version ] && echo "Python 3.11.2"');
    const { message, hint } = await setUp(world.env);
    assert.match(message ?? "", /^Cannot fetch MLX: Python 3\.11\.2 has no pip, needed/);
    assert.match(hint ?? "", /^install it with: /);
  });
});

Deno.test("setup without a compiler names it, and the command that installs one", async () => {
  await inWorld(async (world) => {
    linkWheels(world);
    const { message, hint } = await setUp(world.env);
    assert.match(
      message ?? "",
      /^Cannot compile the shim: found no program "c\+\+", needed is a C/,
    );
    assert.match(hint ?? "", /^install one with: (sudo|xcode-select) .*; or name another in CXX$/);
  });
});

Deno.test("setup with a compiler that is too old names it and what is needed", async () => {
  await inWorld(async (world) => {
    linkWheels(world);
    const old = program(world, "old", '[ "$1" = --version ] && echo "g++ (Debian) 8.3.0"');
    const { message } = await setUp({ ...world.env, CXX: old });
    assert.match(
      message ?? "",
      /"g\+\+ \(Debian\) 8\.3\.0" does not know C\+\+20, needed/,
    );
  });
});

Deno.test("setup that cannot write names the folder, and EXO_HOME", async () => {
  await inWorld(async (world) => {
    Deno.writeTextFileSync(world.home, "a file where the folder should be");
    const { message, hint } = await setUp(world.env);
    assert.match(message ?? "", /^Cannot write to the cache folder .*home.native": /);
    assert.match(hint ?? "", /EXO_HOME/);
  });
});

Deno.test("setup for a build of MLX that this machine has not lists those it has", async () => {
  await inWorld(async (world) => {
    const { message, hint } = await setUp({ ...world.env, EXO_MLX: "rocm" });
    assert.match(message ?? "", /^Cannot set up the MLX build "rocm" on \w+ \w+: one of /);
    assert.match(hint ?? "", /^set EXO_MLX to one of: /);
  });
});
