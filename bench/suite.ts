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
import { join } from "node:path";
import config from "../deno.json" with { type: "json" };
import { type Contest, contest, type LlamaPrograms } from "./contest.ts";
import { exoServer } from "./exo_server.ts";
import { thisMachine } from "./machine.ts";
import { llamaCpp } from "./peers/llama_cpp.ts";
import { mlxLm } from "./peers/mlx_lm.ts";
import { keepReport, PAGE_PATH, ratioLines, RESULT_PATH } from "./performance_page.ts";
import { busyPercent } from "./process_usage.ts";
import type { ModelServer } from "./server.ts";
import {
  defaultModel,
  LOOK_MS,
  modelReport,
  note,
  runBenchmark,
  type Setting,
  sources,
} from "./setting.ts";
import { idleCost, startCost } from "./start_cost.ts";
import { commandOf, type SuiteOptions, suiteOptions } from "./suite_options.ts";
import type { SuiteReport, SuiteSettings } from "./suite_report.ts";

const EXIT_SOME_FAILED = 6;

/** Tokens of a context beyond prompt and answer: a prompt is sized by trying. */
const CONTEXT_SPARE_TOKENS = 256;

/** What all steps of this benchmark share. */
interface SuiteSetting extends Setting {
  readonly options: SuiteOptions;
  /** Environment of all servers. */
  readonly env: Readonly<Record<string, string>>;
}

/** Runs all that was asked for. @throws {AppError} when nothing can be measured. */
async function suite(setting: SuiteSetting): Promise<SuiteReport> {
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
    tool: await sources(setting),
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
  { options, processes, scratch, peersDir, logs, signal, env }: SuiteSetting,
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

/** A report with failures lacks figures that the kept one has. */
async function keep(report: SuiteReport): Promise<void> {
  if (report.failed > 0) return void note(`Kept nothing: failures: ${report.failed}`);
  await keepReport(RESULT_PATH, report);
  note(`Wrote ${RESULT_PATH} and ${PAGE_PATH}`);
}

await runBenchmark(
  () => suiteOptions(Deno.args, navigator.hardwareConcurrency),
  async (options, setting) => {
    const threads = String(options.threads);
    const env = { EXO_THREADS: threads, OMP_NUM_THREADS: threads, OPENBLAS_NUM_THREADS: threads };
    const report = await suite({ ...setting, options, env });
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
    note(`\n${ratioLines(report).join("\n")}`);
    if (options.write) await keep(report);
    return report.failed > 0 ? EXIT_SOME_FAILED : 0;
  },
);
