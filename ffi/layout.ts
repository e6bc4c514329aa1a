/**
 * Where the native parts of this machine lie, and the stamp that tells whether they are up to date.
 * Nothing here starts a process: it runs at every start of a node.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { type CompileCommands, compileCommands } from "./compile_commands.ts";
import { chooseVariant, type Variant, type Wheel, WHEELS } from "./wheels.ts";

/** The C++ files, each compiled by itself. */
export const SOURCES = [
  "shim_memory.cpp",
  "shim_pack.cpp",
  "shim_pack_gguf.cpp",
  "shim_kv_blocks.cpp",
  "shim_rows.cpp",
  "shim_record.cpp",
  "shim_plan.cpp",
  "shim_sample.cpp",
  "shim_group.cpp",
  "shim_core.cpp",
  "shim_array.cpp",
  "shim_ops.cpp",
  "shim_shape.cpp",
  "shim_nn.cpp",
  "shim_io.cpp",
  "shim_process.cpp",
  "shim_blas.cpp",
  "shim_distributed.cpp",
] as const;

/** The headers that they include. */
export const HEADERS = [
  "shim.h",
  "shim_internal.h",
  "shim_native.h",
  "shim_pack.h",
  "shim_rows.h",
  "shim_plan.h",
  "shim_group.h",
  "shim_side_channel.h",
] as const;

/** The sources of the CPU kernels, headers included; their tests lie in a folder of their own. */
export function kernelFiles(): string[] {
  return [...Deno.readDirSync(new URL("kernels/", import.meta.url))]
    .filter(({ name }) => /\.(cpp|h)$/.test(name))
    .map(({ name }) => `kernels/${name}`)
    .sort();
}

/** Paths and identity of the native parts. */
export interface Layout {
  readonly variant: Variant;
  readonly wheels: readonly Wheel[];
  /** The folder that holds all the rest. */
  readonly root: string;
  /** The unpacked wheels; they outlive changes of the shim. */
  readonly wheelsDir: string;
  /** The folder of the compiled library and of `device.json`, named after the stamp. */
  readonly libraryDir: string;
  readonly libraryPath: string;
  /** Backends, versions and memory as the probe found them. */
  readonly devicePath: string;
  /** What the compiler is told. */
  readonly commands: CompileCommands;
  /** Changes with the wheels, the shim's sources and flags, the platform and the build of MLX. */
  readonly stamp: string;
}

/**
 * The layout for this machine and environment (EXO_HOME, EXO_MLX, XDG_CACHE_HOME).
 * @throws {SetupError} if MLX is not built for this machine.
 */
export function nativeLayout(): Layout {
  const { os, arch } = Deno.build;
  const variant = chooseVariant({ os, arch, wanted: Deno.env.get("EXO_MLX") });
  const wheels = WHEELS[variant];
  const wheelsStamp = digest([variant, os, arch, JSON.stringify(wheels)]);
  const wheelsName = `wheels-${wheelsStamp}`;
  const libraryName = os === "darwin" ? "libmlx_shim.dylib" : "libmlx_shim.so";
  const programs = [...SOURCES, ...kernelFiles().filter((name) => name.endsWith(".cpp"))];
  const commands = compileCommands({ programs, wheels, wheelsName, libraryName, os, arch });
  const stamp = stampOf(wheelsStamp, commands);
  const root = join(cacheDir(), "native");
  const libraryDir = join(root, `shim-${stamp}`);
  return {
    variant,
    wheels,
    root,
    wheelsDir: join(root, wheelsName),
    libraryDir,
    libraryPath: join(libraryDir, libraryName),
    devicePath: join(libraryDir, "device.json"),
    commands,
    stamp,
  };
}

/**
 * The stamp of what is compiled over these wheels: it changes with a source or a flag. Not with the
 * compiler, which would have to be started to be asked.
 */
export function stampOf(wheelsStamp: string, { objects, link }: CompileCommands): string {
  return digest([
    wheelsStamp,
    ...[...SOURCES, ...HEADERS, ...kernelFiles()].map(sourceText),
    ...objects.flat(),
    ...link,
  ]);
}

/** Whether the setup has nothing to do; folders appear whole or not at all, so a look is enough. */
export function isSetUp(layout: Layout): boolean {
  return exists(layout.devicePath) && exists(layout.wheelsDir);
}

/** The text of one of the shim's own files. */
export function sourceText(name: string): string {
  return Deno.readTextFileSync(new URL(name, import.meta.url));
}

/** Whether there is anything at this path. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** The user's cache folder of exo. EXO_HOME is joined to the home folder unless it is absolute. */
function cacheDir(): string {
  const home = homedir();
  const own = Deno.env.get("EXO_HOME");
  if (own) return isAbsolute(own) ? own : join(home, own);
  if (Deno.build.os === "darwin") return join(home, "Library", "Caches", "exo");
  const xdg = Deno.env.get("XDG_CACHE_HOME");
  return join(xdg && isAbsolute(xdg) ? xdg : join(home, ".cache"), "exo");
}

function digest(parts: readonly string[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${part.length}:${part}`);
  return hash.digest("hex").slice(0, 16);
}
