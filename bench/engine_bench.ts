/**
 * `deno task bench:engine`: exo's decoder in a process of its own, without node and HTTP, in turns
 * with llama.cpp's own benchmark programs and a plain loop that reads memory.
 *
 *     deno task bench:engine [--model FILE.gguf | --model synthetic-500m] [--rounds N]
 *       [--threads N,…] [--pp N] [--tg N] [--concurrency N,…] [--instructions native|avx2]
 *       [--peers-dir DIR] [--write]
 *
 * One JSON object on stdout (`engine_report.ts`), progress and a table of ratios on stderr. `--write`
 * also keeps the object in `bench/results/` and writes `docs/performance.md` anew.
 */
import { join } from "node:path";
import { RUNNER_V8_FLAGS } from "../core/v8_flags.ts";
import type { BoundModel } from "../engines/engine.ts";
import { readGgufHeader } from "../engines/text/gguf_file.ts";
import { commandOf, type EngineOptions, engineOptions } from "./engine_options.ts";
import {
  type EngineFigures,
  engineLines,
  type EngineModel,
  type EngineReport,
  type EngineRound,
  engineRows,
  type EngineTask,
  weightSizes,
} from "./engine_report.ts";
import { thisMachine } from "./machine.ts";
import { bindModel } from "./open_model.ts";
import { llamaBatchedBench, llamaBench, type LlamaBenchOptions } from "./peers/llama_bench.ts";
import { llamaCpp } from "./peers/llama_cpp.ts";
import { ENGINE_PATHS, keepReport } from "./performance_page.ts";
import { compileReadLoop, type ReadLoop } from "./read_loop.ts";
import { alternate } from "./rounds.ts";
import {
  defaultModel,
  modelReport,
  note,
  quietMoment,
  ROOT,
  runBenchmark,
  type Setting,
  sources,
} from "./setting.ts";
import type { LlamaBenchFigure } from "./suite_report.ts";
import { SYNTHETIC_500M, writeSyntheticModel } from "./synthetic_model.ts";

/** Tokens of a short prompt, yet enough to ask for an answer that runs on until it is cut. */
const SHORT_PROMPT_TOKENS = 64;

/** What the turns need. */
interface Rig {
  readonly options: EngineOptions;
  readonly setting: Setting;
  readonly model: EngineModel;
  readonly bound: BoundModel;
  readonly program: LlamaBenchOptions["program"];
  readonly readLoop: ReadLoop;
}

async function engineBench(options: EngineOptions, setting: Setting): Promise<EngineReport> {
  const startedAt = new Date().toISOString();
  const { processes: { run }, scratch, peersDir, logs } = setting;
  await run(Deno.execPath(), ["run", "-A", join(ROOT, "ffi/setup.ts")], {
    logPath: join(logs, "setup.log"),
  });
  const { version, program } = await llamaCpp.install(
    { folder: peersDir, run, onProgress: note },
    { instructions: options.instructions },
  );
  const readLoop = await compileReadLoop({ run, folder: scratch, logPath: join(logs, "loop.log") });
  const path = await modelPath(options, setting);
  const model = { ...await modelReport(path), ...weightSizes(readGgufHeader(path)) };
  const rig = { options, setting, model, bound: bindModel(path, model.bytes), program, readLoop };
  const rounds = await play(rig);
  const { pp, tg, concurrency, threads } = options;
  return {
    schemaVersion: 1,
    tool: await sources(setting),
    command: commandOf(options),
    startedAt,
    finishedAt: new Date().toISOString(),
    machine: await thisMachine(),
    model,
    settings: { pp, tg, concurrency, threads, rounds: options.rounds, llamaCpp: version },
    rounds,
    rows: engineRows(rounds, model),
  };
}

async function modelPath({ model }: EngineOptions, setting: Setting): Promise<string> {
  if (model !== undefined && model !== SYNTHETIC_500M.name) return model;
  const known = await defaultModel(setting);
  if (model === undefined) return known;
  const path = join(setting.scratch, `${model}.gguf`);
  note("Writing the synthetic model");
  await writeSyntheticModel(path, { shape: SYNTHETIC_500M, tokenizer: readGgufHeader(known) });
  return path;
}

/** All turns, round by round. */
async function play(rig: Rig): Promise<EngineRound[]> {
  const { options, setting, model, readLoop } = rig;
  const rounds: EngineRound[] = [];
  await alternate(options.threads, options.rounds, async (threads, round) => {
    note(`Round ${round + 1} of ${options.rounds}, threads: ${threads}`);
    const looks: (number | null)[] = [];
    const whenQuiet = async <T>(turn: () => Promise<T>): Promise<T> => {
      looks.push(await quietMoment(setting.signal));
      return await turn();
    };
    const exo = await whenQuiet(() => ownTurn(rig, threads));
    const llama = await whenQuiet(() => llamaTurn(rig, threads));
    const readBytesPerSecond = await whenQuiet(() => readLoop(model.tokenBytes, threads));
    const known = looks.filter((look) => look !== null);
    rounds.push({
      ...{ round, threads, busyPercent: known.length === 0 ? null : Math.max(...known) },
      ...{ exo, llamaCpp: llama, readBytesPerSecond },
    });
  });
  return rounds;
}

/** Sequences at once are measured with the most threads. */
function concurrencyFor({ threads, concurrency }: EngineOptions, own: number): readonly number[] {
  return own === Math.max(...threads) ? concurrency : [];
}

async function ownTurn({ options, setting, bound }: Rig, threads: number): Promise<EngineFigures> {
  const { pp, tg, instructions } = options;
  const concurrency = concurrencyFor(options, threads);
  const task: EngineTask = { model: bound, pp, tg, shortPp: SHORT_PROMPT_TOKENS, concurrency };
  const script = new URL("engine_turn.ts", import.meta.url).pathname;
  const args = ["run", "-A", script, JSON.stringify(task)];
  const said = await setting.processes.run(Deno.execPath(), args, {
    logPath: join(setting.logs, "engine.log"),
    env: {
      EXO_THREADS: String(threads),
      DENO_V8_FLAGS: RUNNER_V8_FLAGS.join(","),
      ...(instructions === "native" ? {} : { EXO_KERNELS: instructions }),
    },
  });
  return JSON.parse(said);
}

async function llamaTurn(
  { options, setting, bound: { modelPath }, program }: Rig,
  threads: number,
): Promise<LlamaBenchFigure[]> {
  const { pp, tg } = options;
  const start = { logPath: join(setting.logs, "llama-bench.log") };
  const common = { run: setting.processes.run, start, program, modelPath, threads };
  const alone = await llamaBench({ ...common, lengths: [{ pp, tg }], concurrency: [1] });
  const concurrency = concurrencyFor(options, threads);
  if (concurrency.length === 0) return alone;
  const lengths = [{ pp: SHORT_PROMPT_TOKENS, tg }];
  return [...alone, ...await llamaBatchedBench({ ...common, lengths, concurrency })];
}

await runBenchmark(
  () => engineOptions(Deno.args, navigator.hardwareConcurrency),
  async (options, setting) => {
    const report = await engineBench(options, setting);
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
    note(`\n${engineLines(report).join("\n")}`);
    const isSynthetic = options.model === SYNTHETIC_500M.name;
    const kind = isSynthetic ? "synthetic" : options.instructions === "native" ? "model" : "avx2";
    if (options.write) await keepReport(ENGINE_PATHS[kind], report);
    return 0;
  },
);
