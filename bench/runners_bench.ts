/**
 * `deno task bench:runners`: what runners of one machine leave each other. Decodes with one runner
 * alone, with several at once, and with several that share the cores out, in turns.
 *
 *     deno task bench:runners [--model FILE.gguf] [--runners N] [--rounds N] [--seconds N]
 *
 * One JSON object on stdout, progress and a table on stderr.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RUNNER_V8_FLAGS } from "../core/v8_flags.ts";
import { numberFlag, readFlags } from "./flags.ts";
import { thisMachine } from "./machine.ts";
import { alternate } from "./rounds.ts";
import {
  type RunnerFigures,
  runnersLines,
  type RunnersPlayer,
  runnersPlayers,
  type RunnersTask,
  type RunnersTurn,
  runnersTurn,
} from "./runners_report.ts";
import {
  defaultModel,
  modelReport,
  note,
  quietMoment,
  runBenchmark,
  type Setting,
  sources,
} from "./setting.ts";

function optionsOf(args: readonly string[]) {
  const parse = () =>
    parseArgs({
      args: [...args],
      options: {
        model: { type: "string" },
        runners: { type: "string", default: "2" },
        rounds: { type: "string", default: "5" },
        seconds: { type: "string", default: "5" },
      },
    }).values;
  const values = readFlags(parse, "as in --runners 2 --rounds 5 --seconds 5");
  return {
    model: values.model,
    runners: numberFlag("runners", values.runners, 2),
    rounds: numberFlag("rounds", values.rounds, 1),
    seconds: numberFlag("seconds", values.seconds, 1),
    peersDir: undefined,
  };
}

/** Starts a player's runners and waits for what they did. */
async function play(
  { name, count, threads }: RunnersPlayer,
  { setting, path, seconds, round }: {
    readonly setting: Setting;
    readonly path: string;
    readonly seconds: number;
    readonly round: number;
  },
): Promise<RunnersTurn> {
  const busyPercent = await quietMoment(setting.signal);
  const folder = await Deno.makeTempDir({ dir: setting.scratch });
  const task: RunnersTask = { path, seconds, count, folder };
  const script = new URL("runners_turn.ts", import.meta.url).pathname;
  const args = ["run", "-A", script, JSON.stringify(task)];
  const env = {
    DENO_V8_FLAGS: RUNNER_V8_FLAGS.join(","),
    ...(threads === undefined ? {} : { EXO_THREADS: String(threads) }),
  };
  const logPath = join(setting.logs, "runners.log");
  const said = await Promise.all(
    Array.from(
      { length: count },
      () => setting.processes.run(Deno.execPath(), args, { logPath, env }),
    ),
  );
  const figures: RunnerFigures[] = said.map((text) => JSON.parse(text));
  return runnersTurn(figures, { player: name, round, busyPercent });
}

await runBenchmark(() => optionsOf(Deno.args), async (options, setting) => {
  const path = options.model ?? await defaultModel(setting);
  const { runners, rounds, seconds } = options;
  const players = runnersPlayers(runners, navigator.hardwareConcurrency);
  const turns: RunnersTurn[] = [];
  await alternate(players, rounds, async (player, round) => {
    note(`Round ${round + 1} of ${rounds}: ${player.name}`);
    turns.push(await play(player, { setting, path, seconds, round }));
  });
  const [tool, machine] = [await sources(setting), await thisMachine()];
  const settings = { runners, rounds, seconds };
  const report = { tool, machine, model: await modelReport(path), settings, turns };
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
  note(`\n${runnersLines(turns).join("\n")}`);
  return 0;
});
