/** Machines on which MLX cannot be set up or loaded: prints what is said as JSON. */
import { basename, join } from "node:path";
import { nativeLayout } from "../../ffi/layout.ts";
import { native } from "../../ffi/bind.ts";
import { setupFailed } from "../../cli/host.ts";
import { ERRORS } from "../../core/errors.ts";
import { tellTyped } from "./command_line.ts";
import type { Told } from "./told.ts";

const [root = ""] = Deno.args;
const { wheelsDir } = nativeLayout();

/** A machine: its programs, its cache and its variables. */
interface Machine {
  readonly name: string;
  /** Shell lines of programs by their names. */
  readonly programs?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  /** Whether the wheels are in the cache. */
  readonly hasWheels?: boolean;
  /** Whether the cache folder is a file. */
  readonly isFile?: boolean;
}

const PIP = (said: string) => `
case "$*" in
  --version) echo "Python 3.11.2";;
  *"pip --version"*) echo "pip 24.0";;
  *) echo '${said}' >&2; exit 1;;
esac`;
const COMPILER = (lines: string) => `case "$*" in *-version) echo "fake c++ 1.0";; ${lines} esac`;
const COMPILES = `*) while [ $# -gt 0 ]; do if [ "$1" = -o ]; then : > "$2"; fi; shift; done;;`;

const MACHINES: readonly Machine[] = [
  { name: "no Python" },
  {
    name: "no pip",
    programs: { python3: '[ "$1" = --version ] && echo "Python 3.11.2"' },
  },
  {
    name: "no network",
    programs: { python3: PIP("NewConnectionError: name resolution failed") },
  },
  {
    name: "no wheel for this machine",
    programs: {
      python3: PIP("ERROR: No matching distribution found for mlx-cpu"),
      getconf: 'echo "glibc 2.31"',
    },
  },
  {
    name: "a wheel with other bytes",
    programs: { python3: PIP("THESE PACKAGES DO NOT MATCH THE HASHES") },
  },
  { name: "a pip that fails otherwise", programs: { python3: PIP("ERROR: something else") } },
  { name: "no compiler", hasWheels: true },
  {
    name: "a compiler that CXX names and that is not there",
    hasWheels: true,
    env: { CXX: "zig++" },
  },
  {
    name: "a compiler that is too old",
    hasWheels: true,
    programs: { "c++": COMPILER("*fsyntax-only*) exit 1;;") },
  },
  {
    name: "a compiler that fails",
    hasWheels: true,
    programs: {
      "c++": COMPILER("*fsyntax-only*) ;; *) echo 'shim.cpp:1: error: no' >&2; exit 1;;"),
    },
  },
  {
    name: "a library that was compiled and does not work",
    hasWheels: true,
    programs: { "c++": COMPILER(`*fsyntax-only*) ;; ${COMPILES}`) },
  },
  { name: "a cache folder that is a file", isFile: true },
  { name: "EXO_MLX that is not for this machine", env: { EXO_MLX: "rocm" } },
];

/** What `exo setup` says on a machine. */
async function setupOn({ name, programs = {}, env = {}, hasWheels, isFile }: Machine) {
  const folder = join(root, name.replaceAll(" ", "-"));
  const [bin, home] = [join(folder, "bin"), join(folder, "home")];
  await Deno.mkdir(bin, { recursive: true });
  for (const [program, lines] of Object.entries(programs)) {
    await Deno.writeTextFile(join(bin, program), `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
  }
  if (isFile) await Deno.writeTextFile(home, "");
  if (hasWheels) {
    await Deno.mkdir(join(home, "native"), { recursive: true });
    await Deno.symlink(wheelsDir, join(home, "native", basename(wheelsDir)));
  }
  const all = { EXO_HOME: home, PATH: bin, CXX: "", EXO_MLX: "", EXO_MLX_LIBRARY: "", ...env };
  for (const [key, value] of Object.entries(all)) Deno.env.set(key, value);
  return await tellTyped({ name, argv: ["setup"], env });
}

/** What a process says that opens the library which EXO_MLX_LIBRARY names. */
function opening(name: string, library: string): Told {
  Deno.env.set("EXO_MLX_LIBRARY", library);
  try {
    native();
  } catch (cause) {
    const { code, message, hint } = setupFailed(cause);
    const outcome = `exit ${ERRORS[code].exit} ${code}`;
    return { name, by: `EXO_MLX_LIBRARY=${library} exo runner`, outcome, message, hint };
  }
  throw new Error(`${library} was loaded`);
}

/** What a node says that is started with such a library. */
async function serving(name: string, library: string): Promise<Told> {
  Deno.env.set("EXO_MLX_LIBRARY", library);
  const argv = ["serve", "--no-api", "-q", "--data-dir", join(root, "data")];
  return await tellTyped({ name, argv, env: { EXO_MLX_LIBRARY: library } });
}

const told: Told[] = [];
for (const machine of MACHINES) told.push(await setupOn(machine));
const text = join(root, "text.so");
await Deno.writeTextFile(text, "no library");
told.push(await serving("EXO_MLX_LIBRARY where nothing is", join(root, "nothing.so")));
told.push(opening("a library that is none", text));
// Any library that loads and has none of our functions: the system's own.
const other = join(root, "other.so");
await Deno.symlink(join(wheelsDir, "scipy_openblas32", "lib", "libscipy_openblas.so"), other);
told.push(opening("a library of another version", other));
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(told)));
Deno.exit(0);
