/**
 * `deno task bench`: what exo costs on this machine, alone and beside its peers.
 *
 *     deno task bench [--peer mlx-lm] [--peer llama.cpp] [--model FILE.gguf] [--rounds N]
 *       [--warmup N] [--threads N] [--pp N] [--tg N] [--concurrency N,…] [--starts N]
 *       [--idle SECONDS] [--peers-dir DIR] [--write]
 *
 * One JSON object on stdout (`suite_report.ts`), progress and a table of ratios on stderr. `--write`
 * also keeps the object in `bench/results/` and writes `docs/performance.md` from it, unless
 * something failed; then it exits with 6.
 */
import { basename, join } from "node:path";
import { directories } from "../core/directories.ts";
import { AppError, ERRORS, toAppError } from "../core/errors.ts";
import config from "../deno.json" with { type: "json" };
import { exoServer } from "./exo_server.ts";
import { thisMachine } from "./machine.ts";
import { llamaCpp } from "./peers/llama_cpp.ts";
import { mlxLm } from "./peers/mlx_lm.ts";
import { PAGE_PATH, performancePage, ratioLines, RESULT_PATH } from "./performance_page.ts";
import { busyPercent } from "./process_usage.ts";
import { Processes } from "./processes.ts";
import { type Contest, contest, type LlamaPrograms } from "./contest.ts";
import { idleCost, startCost } from "./start_cost.ts";
import { commandOf, type SuiteOptions, suiteOptions } from "./suite_options.ts";
import type { ModelReport, SuiteReport, SuiteSettings } from "./suite_report.ts";
import type { ModelServer } from "./server.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const EXIT_SOME_FAILED = 6;

/** Tokens of a context beyond prompt and answer: a prompt is sized by trying. */
const CONTEXT_SPARE_TOKENS = 256;

/** For how long the machine is looked at before a turn. */
const LOOK_MS = 500;

const note = (line: string) => Deno.stderr.writeSync(new TextEncoder().encode(`${line}\n`));

/** What all steps share. */
interface Setting {
  readonly options: SuiteOptions;
  readonly processes: Processes;
  /** Takes what goes at the end. */
  readonly scratch: string;
  /** Where peers are installed; exists. */
  readonly peersDir: string;
  /** In that folder: what programs said in the last run. */
  readonly logs: string;
  readonly signal: AbortSignal;
  readonly env: Readonly<Record<string, string>>;
}

/** Runs all that was asked for. @throws {AppError} when nothing can be measured. */
async function suite(setting: Setting): Promise<SuiteReport> {
  const { options, signal } = setting;
  const startedAt = new Date().toISOString();
  const modelPath = options.model ?? await defaultModel(setting);
  const model = await modelReport(modelPath);
  const { servers, llamaPrograms } = await install(setting, modelPath);
  note("exo: starting and idling a node");
  const node = {
    startMs: await startCost(setting, options.starts),
    idle: await idleCost(setting, { seconds: options.idleSeconds, signal }),
  };
  const settings = settingsOf(options);
  const found: Contest = await contest(servers, {
    ...{ settings, llamaPrograms, modelPath, signal, onProgress: note },
    busy: () => busyPercent(LOOK_MS, signal),
    ...{ run: setting.processes.run, logPath: join(setting.logs, "llama-bench.log") },
  });
  return {
    schemaVersion: 1,
    tool: { name: "exo", version: config.version, ...await sources(setting) },
    command: commandOf(options),
    startedAt,
    finishedAt: new Date().toISOString(),
    machine: await thisMachine(),
    ...{ model, settings, node },
    ...found,
  };
}

function settingsOf({ pp, tg, concurrency, warmup, rounds, threads }: SuiteOptions): SuiteSettings {
  return { lengths: [{ pp, tg }], concurrency, repeat: 1, warmup, rounds, threads };
}

async function install(
  { options, processes, scratch, peersDir, logs, signal, env }: Setting,
  modelPath: string,
): Promise<{ servers: ModelServer[]; llamaPrograms: LlamaPrograms | null }> {
  const { threads, pp, tg } = options;
  const contextTokens = pp + tg + CONTEXT_SPARE_TOKENS;
  const parallel = Math.max(...options.concurrency);
  const served = { processes, scratch, logs, env, modelPath, threads, contextTokens, parallel };
  const servers = [exoServer({ ...served, version: config.version, signal })];
  let llamaPrograms: LlamaPrograms | null = null;
  const context = { folder: peersDir, run: processes.run, onProgress: note };
  for (const name of options.peers) {
    if (name === "llama.cpp") {
      const installed = await llamaCpp.install(context);
      llamaPrograms = installed;
      servers.push(await installed.server(served));
    } else servers.push(await (await mlxLm.install(context)).server(served));
  }
  return { servers, llamaPrograms };
}

function cacheFolder(): string {
  const env = Deno.env.toObject();
  return directories({ env, os: Deno.build.os, home: env["HOME"] ?? "/" }).cache;
}

/** The model of `exo demo`, fetched by the room that this one may not import. */
async function defaultModel({ processes, logs }: Setting): Promise<string> {
  note("exo: the default model");
  const script = join(ROOT, "cli/default_model.ts");
  const args = ["run", "-A", script, cacheFolder()];
  const said = await processes.run(Deno.execPath(), args, { logPath: join(logs, "model.log") });
  return said.trim();
}

async function modelReport(path: string): Promise<ModelReport> {
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

async function sources({ processes, logs }: Setting) {
  const git = (...args: string[]) =>
    processes.run("git", ["-C", ROOT, ...args], { logPath: join(logs, "git.log") });
  try {
    const commit = (await git("rev-parse", "--short=12", "HEAD")).trim();
    const changes = await git("status", "--porcelain", "--untracked-files=no");
    return { commit, hasChanges: changes.trim() !== "" };
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { commit: null, hasChanges: false };
  }
}

/** A report with failures lacks figures that the kept one has. */
async function keep(report: SuiteReport): Promise<void> {
  if (report.failed > 0) return void note(`Kept nothing: failures: ${report.failed}`);
  await Deno.mkdir(join(ROOT, "bench/results"), { recursive: true });
  await Deno.writeTextFile(join(ROOT, RESULT_PATH), `${JSON.stringify(report, null, 2)}\n`);
  await Deno.writeTextFile(join(ROOT, PAGE_PATH), performancePage(report));
  note(`Wrote ${RESULT_PATH} and ${PAGE_PATH}`);
}

/** The folder by its full path, made if it is not there. */
async function folder(path: string): Promise<string> {
  await Deno.mkdir(path, { recursive: true });
  return await Deno.realPath(path);
}

/** The exit code. */
async function main(signal: AbortSignal): Promise<number> {
  const options = suiteOptions(Deno.args, navigator.hardwareConcurrency);
  const threads = String(options.threads);
  const env = { EXO_THREADS: threads, OMP_NUM_THREADS: threads, OPENBLAS_NUM_THREADS: threads };
  const peersDir = await folder(options.peersDir ?? join(cacheFolder(), "bench-peers"));
  await Deno.remove(join(peersDir, "logs"), { recursive: true }).catch(() => {});
  const logs = await folder(join(peersDir, "logs"));
  const scratch = await Deno.makeTempDir({ prefix: "exo-bench-" });
  try {
    await using processes = new Processes(signal);
    const report = await suite({ options, processes, scratch, peersDir, logs, signal, env });
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
    note(`\n${ratioLines(report).join("\n")}`);
    if (options.write) await keep(report);
    return report.failed > 0 ? EXIT_SOME_FAILED : 0;
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

const signal = interrupted();
try {
  Deno.exit(await main(signal));
} catch (thrown) {
  const error = signal.aborted ? new AppError("cancelled", "Interrupted") : toAppError(thrown);
  note(`error: ${error.message}${error.hint ? `\nhint: ${error.hint}` : ""}`);
  Deno.exit(ERRORS[error.code].exit);
}
