/**
 * Fetches MLX and compiles the shim for this machine: `deno run -A ffi/setup.ts`. Does nothing, and
 * starts no process, when both are there already.
 *
 * Environment: EXO_HOME (in place of the user's cache folder), EXO_MLX (cpu, metal, cuda-12 or
 * cuda-13), CXX (the compiler).
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { basename, join } from "node:path";
import { buildShim } from "./build.ts";
import { lastLines, run } from "./command.ts";
import { SetupError } from "./errors.ts";
import { fetchWheels } from "./fetch.ts";
import { exists, isSetUp, type Layout, nativeLayout } from "./layout.ts";

/** Settings of the setup. */
export interface SetupOptions {
  /** Hears one line for each step that takes time. */
  readonly onProgress?: (line: string) => void;
  /**
   * The program and arguments that print the device's facts, with EXO_MLX_LIBRARY set to the new
   * library; by default this Deno with `probe.ts`. A compiled binary names itself here.
   */
  readonly probeCommand?: readonly [string, ...string[]];
}

/** What the setup made, or found. */
export interface Setup {
  /** The compiled shim; `device.json` lies beside it. */
  readonly libraryPath: string;
  /**
   * Changes with the wheels, the shim's sources, the platform and the build of MLX; "named" for a
   * library that EXO_MLX_LIBRARY names, with which the setup has nothing to do.
   */
  readonly stamp: string;
}

/** Work folders that nobody has touched for so long are left from a setup that was killed. */
const ABANDONED_MS = 3_600_000;
const WORK_PREFIX = ".work-";

/**
 * Makes sure that the shim for this machine is there and works. Takes milliseconds if it is, else
 * up to a minute and about 20 MB of download (CPU). Two at a time do not disturb each other.
 * @throws {SetupError} naming the missing prerequisite or failed step, with what to do.
 */
export async function ensureSetup(options: SetupOptions = {}): Promise<Setup> {
  const named = Deno.env.get("EXO_MLX_LIBRARY");
  if (named) return { libraryPath: named, stamp: "named" };
  const layout = nativeLayout();
  const { libraryPath, stamp } = layout;
  if (!isSetUp(layout)) await setUp(layout, options);
  return { libraryPath, stamp };
}

async function setUp(layout: Layout, { onProgress, probeCommand }: SetupOptions): Promise<void> {
  const tell = onProgress ?? (() => {});
  await makeFolder(layout.root, layout.wheelsDir, async (folder) => {
    tell(`Fetching ${layout.wheels.map(({ name, version }) => `${name} ${version}`).join(", ")}`);
    await fetchWheels(layout.wheels, folder);
  });
  await makeFolder(layout.root, layout.libraryDir, async (folder) => {
    tell("Compiling the shim");
    await buildShim(layout, folder);
    tell("Probing the device");
    const facts = await probe(join(folder, basename(layout.libraryPath)), probeCommand);
    Deno.writeTextFileSync(join(folder, basename(layout.devicePath)), `${facts}\n`);
  });
}

/**
 * Fills a work folder and renames it to `target`, so that `target` is whole or not there at all.
 */
async function makeFolder(
  root: string,
  target: string,
  fill: (folder: string) => Promise<void>,
): Promise<void> {
  if (exists(target)) return;
  const folder = join(root, `${WORK_PREFIX}${crypto.randomUUID()}`);
  try {
    Deno.mkdirSync(root, { recursive: true });
    removeAbandoned(root);
    Deno.mkdirSync(folder);
  } catch (cause) {
    throw unwritable(root, cause);
  }
  try {
    await fill(folder);
    moveOrYield(folder, target);
  } finally {
    if (exists(folder)) Deno.removeSync(folder, { recursive: true });
  }
}

/** Whoever comes second keeps what the first one made. */
function moveOrYield(folder: string, target: string): void {
  try {
    Deno.renameSync(folder, target);
  } catch (cause) {
    if (!exists(target)) throw unwritable(target, cause);
  }
}

function unwritable(path: string, cause: unknown): SetupError {
  const said = cause instanceof Error ? cause.message : String(cause);
  const words = said.replace(/ \(os error.*$/s, "");
  const reason = words.charAt(0).toLowerCase() + words.slice(1);
  return new SetupError(
    `Cannot write to the cache folder "${path}": ${reason}, a folder that can be written needed`,
    `name one that you may write to: EXO_HOME=DIR exo setup`,
    { cause },
  );
}

function removeAbandoned(root: string): void {
  for (const { name } of Deno.readDirSync(root)) {
    if (!name.startsWith(WORK_PREFIX)) continue;
    const path = join(root, name);
    const modified = Deno.statSync(path).mtime?.getTime() ?? Date.now();
    if (Date.now() - modified > ABANDONED_MS) Deno.removeSync(path, { recursive: true });
  }
}

async function probe(libraryPath: string, own?: SetupOptions["probeCommand"]): Promise<string> {
  const permissions = ["--allow-ffi", "--allow-read", "--allow-env", "--allow-sys"];
  const script = fileURLToPath(new URL("probe.ts", import.meta.url));
  const flags = ["run", "--quiet", "--no-config", "--no-lock", ...permissions, script];
  const [program, ...args] = own ?? [Deno.execPath(), ...flags];
  const outcome = await run(program, args, undefined, { EXO_MLX_LIBRARY: libraryPath });
  if (outcome?.ok) return outcome.stdout;
  throw new SetupError(
    `Cannot use MLX on this machine: the probe failed, libraries that load needed\n${
      lastLines(outcome?.stderr ?? program)
    }`,
    "if a library is named above, install it; with EXO_MLX=cpu Linux needs no GPU driver",
  );
}

if (import.meta.main) {
  const say = (line: string) => Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));
  try {
    const { libraryPath } = await ensureSetup({ onProgress: say });
    say(`MLX is ready: ${libraryPath}`);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`${error.message}\nhint: ${error.hint}`);
    Deno.exit(1);
  }
}
