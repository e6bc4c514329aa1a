/** What the benchmarks that are programs share: where they work, and what they measure. */
import { basename, join } from "node:path";
import { directories } from "../core/directories.ts";
import { AppError, ERRORS, toAppError } from "../core/errors.ts";
import config from "../deno.json" with { type: "json" };
import { busyPercent, QUIET_PERCENT_MAX } from "./process_usage.ts";
import { Processes } from "./processes.ts";
import type { ModelReport, SuiteReport } from "./suite_report.ts";

/** The root of the sources. */
export const ROOT = new URL("..", import.meta.url).pathname;

/** What all steps of a benchmark share. */
export interface Setting {
  readonly processes: Processes;
  /** Takes what goes at the end. */
  readonly scratch: string;
  /** Where peers are installed; exists. */
  readonly peersDir: string;
  /** In that folder: what programs said in the last run. */
  readonly logs: string;
  readonly signal: AbortSignal;
}

/** A line for people. */
export function note(line: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));
}

/** For how long the machine is looked at before a turn. */
export const LOOK_MS = 500;

/** Looks at a busy machine before a turn begins all the same: a minute. */
const LOOKS_MAX = 60_000 / LOOK_MS;

/** Waits until others leave the machine alone; gives what they use of it in the end, in percent. */
export async function quietMoment(signal: AbortSignal): Promise<number | null> {
  let busy = await busyPercent(LOOK_MS, signal);
  for (let look = 1; look < LOOKS_MAX && busy !== null && busy > QUIET_PERCENT_MAX; look++) {
    busy = await busyPercent(LOOK_MS, signal);
  }
  return busy;
}

/**
 * Runs a benchmark and ends this process with the exit code that it gives, or with that of its
 * error. A signal ends all that it has started.
 */
export async function runBenchmark<T extends { readonly peersDir: string | undefined }>(
  readOptions: () => T,
  work: (options: T, setting: Setting) => Promise<number>,
): Promise<never> {
  const signal = interrupted();
  try {
    const options = readOptions();
    const peersDir = await folder(options.peersDir ?? join(cacheFolder(), "bench-peers"));
    Deno.exit(await inSetting(peersDir, signal, (setting) => work(options, setting)));
  } catch (thrown) {
    const error = signal.aborted ? new AppError("cancelled", "Interrupted") : toAppError(thrown);
    note(`error: ${error.message}${error.hint ? `\nhint: ${error.hint}` : ""}`);
    Deno.exit(ERRORS[error.code].exit);
  }
}

async function inSetting(
  peersDir: string,
  signal: AbortSignal,
  work: (setting: Setting) => Promise<number>,
): Promise<number> {
  await Deno.remove(join(peersDir, "logs"), { recursive: true }).catch(() => {});
  const logs = await folder(join(peersDir, "logs"));
  const scratch = await Deno.makeTempDir({ prefix: "exo-bench-" });
  try {
    await using processes = new Processes(signal);
    return await work({ processes, scratch, peersDir, logs, signal });
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
}

function interrupted(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => controller.abort());
  }
  return controller.signal;
}

/** The folder by its full path, made if it is not there. */
async function folder(path: string): Promise<string> {
  await Deno.mkdir(path, { recursive: true });
  return await Deno.realPath(path);
}

function cacheFolder(): string {
  const env = Deno.env.toObject();
  return directories({ env, os: Deno.build.os, home: env["HOME"] ?? "/" }).cache;
}

/** The model of `exo demo`, fetched by the room that this one may not import. */
export async function defaultModel({ processes, logs }: Setting): Promise<string> {
  note("exo: the default model");
  const script = join(ROOT, "cli/default_model.ts");
  const args = ["run", "-A", script, cacheFolder()];
  const said = await processes.run(Deno.execPath(), args, { logPath: join(logs, "model.log") });
  return said.trim();
}

/** The file that is measured. @throws {AppError} `not_found` when it cannot be read. */
export async function modelReport(path: string): Promise<ModelReport> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await Deno.readFile(path);
  } catch (cause) {
    const found = cause instanceof Error ? cause.message : String(cause);
    throw new AppError("not_found", `Cannot read ${path}: ${found}, a GGUF file needed`, {
      hint: "name another with --model, or leave it away to take the default model",
      cause,
    });
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return { file: basename(path), bytes: bytes.length, sha256: digest.toHex() };
}

/** The sources that are measured. */
export async function sources({ processes, logs }: Setting): Promise<SuiteReport["tool"]> {
  const { version } = config;
  const git = (...args: string[]) =>
    processes.run("git", ["-C", ROOT, ...args], { logPath: join(logs, "git.log") });
  try {
    const commit = (await git("rev-parse", "--short=12", "HEAD")).trim();
    const changes = await git("status", "--porcelain", "--untracked-files=no");
    return { name: "exo", version, commit, hasChanges: changes.trim() !== "" };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { name: "exo", version, commit: null, hasChanges: false };
  }
}
