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
const PROMPT_TOKENS = 200;
const ANSWER_TOKENS = 128;
const REPEATS = 10;

/** Answers before them: a client that is not compiled yet takes a tenth longer. */
const WARMUPS = 6;

/** What one of the two found. */
interface Figures {
  readonly decodeTokensPerSecond: number;
  readonly ttftMs: number;
}

/** Medians over the rounds of `exo bench --stream`, and of a client on OpenAI's own SDK. */
export interface RulerReport {
  readonly ours: Figures;
  readonly theirs: Figures;
  /** The larger of the two differences, as a share of theirs: the median over the rounds. */
  readonly difference: number;
}

/**
 * Measures one model in turns by `exo bench` and by an independent client, each a process of its own.
 * The model has one thread less than there are cores, so that neither client slows what it measures.
 */
export async function compareRulers(rounds: number): Promise<RulerReport> {
  await using dir = await TempDir.make();
  const threads = Math.max(1, navigator.hardwareConcurrency - 1);
  await using serve = await ServeProcess.start(dir.path, { EXO_THREADS: String(threads) });
  const url = ["--url", serve.url];
  const { cache } = directories({ env: Deno.env.toObject(), os: Deno.build.os, home: homedir() });
  const path = await fetchDefaultModel(cache);
  const { modelId: model } = await json("models", "add", path, ...url);
  await json("instance", "create", model, "--wait", ...url);
  const { words } = await sizePrompt(PROMPT_TOKENS, async (words) => {
    const asked = { url: serve.url, model, prompt: promptText(words, 0), maxTokens: 1 };
    return (await timeAnswer(asked)).promptTokens;
  });
  const [ours, theirs]: [Figures[], Figures[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const flags = [
      ...["--pp", PROMPT_TOKENS, "--tg", ANSWER_TOKENS],
      ...["--repeat", REPEATS, "--warmup", WARMUPS],
    ].map(String);
    const { cells: [cell] } = await json("bench", model, ...flags, "--stream", ...url);
    ours.push(cell);
    theirs.push(await askBySdk(serve.url, model, promptText(words, 1_000 + round)));
  }
  return reportOf(ours, theirs);
}

function reportOf(ours: readonly Figures[], theirs: readonly Figures[]): RulerReport {
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
  return { ours: middle(ours), theirs: middle(theirs), difference };
}

// deno-lint-ignore no-explicit-any -- Each command prints what its own schema says.
async function json(...args: readonly string[]): Promise<any> {
  const { code, stdout, stderr } = await exo(...args, "--json");
  if (code !== 0) throw new Error(`exo ${args.join(" ")}: exit ${code}: ${stderr}`);
  return JSON.parse(stdout);
}

async function askBySdk(url: string, model: string, prompt: string): Promise<Figures> {
  // As many answers before those that count; the median heeds neither their number nor their pace.
  const args = [url, model, String(ANSWER_TOKENS), String(REPEATS + WARMUPS), prompt];
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", CLIENT, ...args],
    stdout: "piped",
  });
  const { stdout } = await command.output();
  return JSON.parse(new TextDecoder().decode(stdout));
}
