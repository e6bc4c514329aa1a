import { homedir } from "node:os";
import { fetchDefaultModel } from "../../cli/default_model.ts";
import { directories } from "../../core/directories.ts";
import { median } from "../../bench/statistics.ts";
import { promptText, sizePrompt } from "../../bench/prompt.ts";
import { timeAnswer } from "../bench/openai_client.ts";
import { exo, ServeProcess } from "../support/exo_process.ts";
import { TempDir } from "../support/temp_dir.ts";

const CLIENT = new URL("../bench/openai_client.ts", import.meta.url).pathname;

/** What is asked of the model in each round, by each of the two. */
export interface RulerOptions {
  readonly rounds: number;
  readonly promptTokens: number;
  readonly answerTokens: number;
  readonly repeats: number;
  /** Answers before them: a client that is not compiled yet takes a tenth longer. */
  readonly warmups: number;
  /** A file or folder; undefined for the default model. */
  readonly modelPath?: string;
  /** Variables of the node. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The long form, which takes the default model. */
export const RULER_LONG = { promptTokens: 200, answerTokens: 128, repeats: 10, warmups: 6 };

/** What one of the two found. */
interface Figures {
  readonly decodeTokensPerSecond: number;
  readonly ttftMs: number;
}

/** Tokens of one prompt and of its answer, as one of the two read them. */
interface Counts {
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** Medians over the rounds of `exo bench --stream`, and of a client on OpenAI's own SDK. */
export interface RulerReport {
  readonly ours: Figures;
  readonly theirs: Figures;
  /** The larger of the two differences, as a share of theirs: the median over the rounds. */
  readonly difference: number;
  /** What both counted in the last round. */
  readonly counts: { readonly ours: Counts; readonly theirs: Counts };
}

/**
 * Measures one model in turns by `exo bench` and by an independent client, each a process of its own.
 * The model has one thread less than there are cores, so that neither client slows what it measures.
 */
export async function compareRulers(options: RulerOptions): Promise<RulerReport> {
  await using dir = await TempDir.make();
  const threads = Math.max(1, navigator.hardwareConcurrency - 1);
  const env = { EXO_THREADS: String(threads), ...options.env };
  await using serve = await ServeProcess.start(dir.path, env);
  const url = ["--url", serve.url];
  const path = options.modelPath ?? await defaultModel();
  const { modelId: model } = await json("models", "add", path, ...url);
  await json("instance", "create", model, "--wait", ...url);
  const { words } = await sizePrompt(options.promptTokens, async (words) => {
    const asked = { url: serve.url, model, prompt: promptText(words, 0), maxTokens: 1 };
    return (await timeAnswer(asked)).promptTokens;
  });
  const [ours, theirs]: [Round[], Round[]] = [[], []];
  for (let round = 0; round < options.rounds; round++) {
    ours.push(await askByBench(url, model, options));
    const prompt = promptText(words, 1_000 + round);
    theirs.push(await askBySdk(serve.url, { model, prompt, ...options }));
  }
  return reportOf(ours, theirs);
}

/** What one of the two found in one round. */
type Round = Figures & Counts;

async function defaultModel(): Promise<string> {
  const { cache } = directories({ env: Deno.env.toObject(), os: Deno.build.os, home: homedir() });
  return await fetchDefaultModel(cache);
}

async function askByBench(
  url: readonly string[],
  model: string,
  { promptTokens, answerTokens, repeats, warmups }: RulerOptions,
): Promise<Round> {
  const flags = [
    ...["--pp", promptTokens, "--tg", answerTokens],
    ...["--repeat", repeats, "--warmup", warmups],
  ].map(String);
  const { cells: [cell], runs } = await json("bench", model, ...flags, "--stream", ...url);
  return { ...cell, ...countsOf(runs.at(-1)) };
}

const countsOf = ({ promptTokens, completionTokens }: Counts): Counts => ({
  promptTokens,
  completionTokens,
});

function reportOf(ours: readonly Round[], theirs: readonly Round[]): RulerReport {
  const middle = (all: readonly Figures[]): Figures => ({
    decodeTokensPerSecond: median(all.map((one) => one.decodeTokensPerSecond)) ?? NaN,
    ttftMs: median(all.map((one) => one.ttftMs)) ?? NaN,
  });
  // Round by round, since a shared machine is not as fast in one minute as in the next.
  const apart = (key: keyof Figures) => {
    const ratios = ours.map((one, i) => one[key] / (theirs[i]?.[key] ?? NaN));
    return Math.abs((median(ratios) ?? NaN) - 1);
  };
  const difference = Math.max(apart("decodeTokensPerSecond"), apart("ttftMs"));
  const [ourLast, theirLast] = [ours.at(-1), theirs.at(-1)];
  if (!ourLast || !theirLast) throw new Error("Cannot compare: found no round, 1 needed");
  const counts = { ours: countsOf(ourLast), theirs: countsOf(theirLast) };
  return { ours: middle(ours), theirs: middle(theirs), difference, counts };
}

// deno-lint-ignore no-explicit-any -- Each command prints what its own schema says.
async function json(...args: readonly string[]): Promise<any> {
  const { code, stdout, stderr } = await exo(...args, "--json");
  if (code !== 0) throw new Error(`exo ${args.join(" ")}: exit ${code}: ${stderr}`);
  return JSON.parse(stdout);
}

async function askBySdk(
  url: string,
  { model, prompt, answerTokens, repeats, warmups }: RulerOptions & {
    readonly model: string;
    readonly prompt: string;
  },
): Promise<Round> {
  // As many answers before those that count; the median heeds neither their number nor their pace.
  const args = [url, model, String(answerTokens), String(repeats + warmups), prompt];
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", CLIENT, ...args],
    stdout: "piped",
  });
  const { stdout } = await command.output();
  return JSON.parse(new TextDecoder().decode(stdout));
}
