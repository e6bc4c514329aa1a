/**
 * `deno task bench:group`: one model over several machines: exo in turns with llama.cpp over RPC,
 * on the same file, threads and prompts, over a network of namespaces (`netns.ts`).
 *
 *     deno task bench:group [--model FILE.gguf] [--only exo] [--rounds N] [--threads N] [--tg N]
 *       [--streams N] [--delay-ms N] [--peers-dir DIR] [--write]
 *
 * One JSON object on stdout (`group/report.ts`), progress and a table on stderr. `--write` also
 * keeps the object in `bench/results/` and writes `docs/performance.md` anew, unless something
 * failed or was left out; if something failed, it exits with 6. Linux alone, as root.
 */
import { join } from "node:path";
import { AppError, toAppError } from "../core/errors.ts";
import { configFromGguf, readGgufHeader } from "../engines/text/gguf_file.ts";
import { exoPlayer } from "./group/exo_player.ts";
import { EXO_LAYOUTS, LLAMA_LAYOUTS, MACHINES } from "./group/layout.ts";
import { llamaPlayer } from "./group/llama_player.ts";
import { commandOf, type GroupOptions, groupOptions } from "./group/options.ts";
import { groupLines } from "./group/page.ts";
import { type Player, PROGRAMS, type Stage } from "./group/player.ts";
import { type GroupReport, groupRows, type GroupTurn } from "./group/report.ts";
import { groupTurn } from "./group/turn.ts";
import { thisMachine } from "./machine.ts";
import { VirtualNetwork, whyNoNetwork } from "./netns.ts";
import { llamaCpp } from "./peers/llama_cpp.ts";
import { GROUP_PATH, keepReport, PAGE_PATH } from "./performance_page.ts";
import { busyPercent } from "./process_usage.ts";
import { alternate } from "./rounds.ts";
import {
  defaultModel,
  LOOK_MS,
  modelReport,
  note,
  runBenchmark,
  type Setting,
  sources,
} from "./setting.ts";
import { SYNTHETIC_SMALL, writeSyntheticModel } from "./synthetic_model.ts";

const EXIT_SOME_FAILED = 6;

/** Tokens of a context beyond the answer: the template, and a short question. */
const CONTEXT_SPARE_TOKENS = 256;

async function group(options: GroupOptions, setting: Setting): Promise<GroupReport> {
  const startedAt = new Date().toISOString();
  const { rounds, threads, tg, streams, delayMs } = options;
  const settings = { rounds, threads, tg, streams, delayMs };
  const modelPath = options.model ?? await defaultModel(setting);
  const model = await modelReport(modelPath);
  const smallModelPath = join(setting.scratch, "small.gguf");
  const tokenizer = readGgufHeader(modelPath);
  await writeSyntheticModel(smallModelPath, { shape: SYNTHETIC_SMALL, tokenizer });
  await using network = await startNetwork();
  const contextTokens = tg + CONTEXT_SPARE_TOKENS;
  const models = { modelPath, smallModelPath };
  const stage = { network, setting, ...models, threads, streams, contextTokens };
  const { players, version } = await playersOf(stage, options);
  const turns: GroupTurn[] = [];
  await alternate(players, rounds, async (player, round) => {
    note(`Round ${round + 1} of ${rounds}: ${player.program}, ${player.layout.name}`);
    const turn = await play(player, round, { stage, settings });
    if (turn.error) note(`It failed: ${turn.error.message}`);
    turns.push(turn);
  });
  return {
    schemaVersion: 1,
    tool: await sources(setting),
    command: commandOf(options),
    startedAt,
    finishedAt: new Date().toISOString(),
    machine: await thisMachine(),
    ...{ model, llamaCpp: version, settings, turns, rows: groupRows(turns, settings) },
    failed: turns.filter(({ error }) => error).length,
  };
}

async function startNetwork(): Promise<VirtualNetwork> {
  const reason = await whyNoNetwork();
  if (reason === undefined) return await VirtualNetwork.start({ machines: MACHINES });
  throw new AppError("setup_failed", `Cannot make ${MACHINES} machines of one: ${reason}`, {
    hint: "run this as root on Linux, with g++, util-linux and iproute2",
  });
}

/** All layouts of all programs, each program's one after the other, so that neighbours compare. */
async function playersOf(
  stage: Stage,
  { programs }: GroupOptions,
): Promise<{ players: Player[]; version: string | null }> {
  const exo = programs.includes("exo") ? EXO_LAYOUTS.map((layout) => exoPlayer(stage, layout)) : [];
  if (!programs.includes("llama.cpp")) return { players: exo, version: null };
  const { processes, peersDir } = stage.setting;
  const context = { folder: peersDir, run: processes.run, onProgress: note };
  const { version, program } = await llamaCpp.install(context, { rpc: true });
  const config = configFromGguf(readGgufHeader(stage.modelPath), stage.modelPath);
  const layers = Number(config["num_hidden_layers"]);
  const theirs = LLAMA_LAYOUTS.map((layout) => llamaPlayer(stage, layout, { program, layers }));
  return { players: [...exo, ...theirs], version };
}

async function play(
  player: Player,
  round: number,
  { stage, settings }: { readonly stage: Stage; readonly settings: GroupReport["settings"] },
): Promise<GroupTurn> {
  const { network, setting: { signal } } = stage;
  const busy = await busyPercent(LOOK_MS, signal);
  const turn = {
    ...{ program: player.program, layout: player.layout.name },
    ...{ round, busyPercent: busy },
  };
  try {
    const running = await player.start();
    try {
      const how = { network, settings, signal };
      return { ...turn, figures: await groupTurn(running, player.layout, how), error: null };
    } finally {
      await running.stop();
    }
  } catch (error) {
    signal.throwIfAborted();
    return { ...turn, figures: null, error: toAppError(error).toInfo() };
  }
}

/** A report with failures, or of one program, lacks figures that the kept one has. */
async function keep(report: GroupReport, { programs }: GroupOptions): Promise<void> {
  if (report.failed > 0) return note(`Kept nothing: failures: ${report.failed}`);
  if (programs.length < PROGRAMS.length) return note("Kept nothing: one program alone");
  await keepReport(GROUP_PATH, report);
  note(`Wrote ${GROUP_PATH} and ${PAGE_PATH}`);
}

await runBenchmark(
  () => groupOptions(Deno.args, navigator.hardwareConcurrency),
  async (options, setting) => {
    const report = await group(options, setting);
    Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
    note(`\n${groupLines(report).join("\n")}`);
    if (options.write) await keep(report, options);
    return report.failed > 0 ? EXIT_SOME_FAILED : 0;
  },
);
