/**
 * `deno task bench:serving`: many streams at once, through the HTTP API: exo in turns with
 * llama.cpp's server on the same file, the same threads and the same prompts.
 *
 *     deno task bench:serving [--model FILE.gguf] [--rounds N] [--threads N] [--pp N] [--tg N]
 *       [--long-pp N] [--concurrency N,…] [--peers-dir DIR] [--write]
 *
 * One JSON object on stdout (`serving_report.ts`), progress and a table on stderr. `--write` also
 * keeps the object in `bench/results/` and writes `docs/performance.md` anew, unless something
 * failed; then it exits with 6.
 */
import config from "../deno.json" with { type: "json" };
import { exoServer } from "./exo_server.ts";
import { thisMachine } from "./machine.ts";
import { llamaCpp } from "./peers/llama_cpp.ts";
import { keepReport, PAGE_PATH, SERVING_PATH } from "./performance_page.ts";
import { busyPercent } from "./process_usage.ts";
import type { ModelServer } from "./server.ts";
import { commandOf, type ServingOptions, servingOptions } from "./serving_options.ts";
import { servingLines } from "./serving_page.ts";
import { type ServingReport, servingRows, type ServingSettings } from "./serving_report.ts";
import { servingRounds } from "./serving_rounds.ts";
import { RUNNING_STREAMS, RUNNING_TOKENS_MAX } from "./serving_turn.ts";
import {
  defaultModel,
  LOOK_MS,
  modelReport,
  note,
  runBenchmark,
  type Setting,
  sources,
} from "./setting.ts";

const EXIT_SOME_FAILED = 6;

/** Tokens of a context beyond prompt and answer: a prompt is sized by trying. */
const CONTEXT_SPARE_TOKENS = 256;

async function serving(options: ServingOptions, setting: Setting): Promise<ServingReport> {
  const startedAt = new Date().toISOString();
  const { signal } = setting;
  const { pp, tg, longPp, concurrency, rounds, threads } = options;
  const settings: ServingSettings = { pp, tg, longPp, concurrency, rounds, threads };
  const path = options.model ?? await defaultModel(setting);
  const model = await modelReport(path);
  const servers = await servingRounds(await install(path, settings, setting), settings, {
    ...{ signal, onProgress: note, busy: () => busyPercent(LOOK_MS, signal) },
  });
  return {
    schemaVersion: 1,
    tool: await sources(setting),
    command: commandOf(options),
    startedAt,
    finishedAt: new Date().toISOString(),
    machine: await thisMachine(),
    ...{ model, settings, servers, rows: servingRows(servers) },
    failed: servers.flatMap((server) => server.rounds).filter(({ error }) => error).length,
  };
}

/** Exo and llama.cpp with the same threads, context and number of requests at once. */
async function install(
  modelPath: string,
  { pp, tg, longPp, concurrency, threads }: ServingSettings,
  { processes, scratch, peersDir, logs, signal }: Setting,
): Promise<ModelServer[]> {
  const count = String(threads);
  const env = { EXO_THREADS: count, OMP_NUM_THREADS: count, OPENBLAS_NUM_THREADS: count };
  const contextTokens = Math.max(longPp, pp + Math.max(tg, RUNNING_TOKENS_MAX)) +
    CONTEXT_SPARE_TOKENS;
  const parallel = Math.max(...concurrency, RUNNING_STREAMS + 1);
  const served = { processes, scratch, logs, env, modelPath, threads, contextTokens };
  const { version } = config;
  const exo = exoServer({ ...served, version, signal, maxConcurrentRequests: parallel });
  const context = { folder: peersDir, run: processes.run, onProgress: note };
  const installed = await llamaCpp.install(context);
  return [exo, await installed.server({ ...served, parallel, cachesPrompts: true })];
}

async function keep(report: ServingReport): Promise<void> {
  if (report.failed > 0) return note(`Kept nothing: failures: ${report.failed}`);
  await keepReport(SERVING_PATH, report);
  note(`Wrote ${SERVING_PATH} and ${PAGE_PATH}`);
}

await runBenchmark(
  () => servingOptions(Deno.args, navigator.hardwareConcurrency),
  async (options, setting) => {
    const report = await serving(options, setting);
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
    note(`\n${servingLines(report).join("\n")}`);
    if (options.write) await keep(report);
    return report.failed > 0 ? EXIT_SOME_FAILED : 0;
  },
);
