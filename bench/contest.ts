import { toAppError } from "../core/errors.ts";
import { llamaBench, type LlamaBenchOptions } from "./peers/llama_bench.ts";
import type { RunProgram } from "./processes.ts";
import type { PromptSize } from "./prompt.ts";
import { LLAMA_BENCH, ratiosOf } from "./ratios.ts";
import { alternate, playTurn, serverReport, type Turn } from "./rounds.ts";
import type { ModelServer } from "./server.ts";
import { median } from "./statistics.ts";
import type {
  LlamaBenchFigure,
  LlamaBenchReport,
  LlamaBenchRound,
  SuiteReport,
  SuiteSettings,
} from "./suite_report.ts";

/** Llama.cpp's own benchmark programs, where they are installed. */
export interface LlamaPrograms {
  readonly version: string;
  readonly program: LlamaBenchOptions["program"];
}

/** What a contest is given. */
export interface ContestOptions {
  readonly settings: SuiteSettings;
  readonly llamaPrograms: LlamaPrograms | null;
  readonly modelPath: string;
  readonly run: RunProgram;
  /** Takes what llama.cpp's programs say beside their figures. */
  readonly logPath: string;
  /** The share of the machine that is in use, in percent; null where nobody knows. */
  readonly busy: () => Promise<number | null>;
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
}

/** The part of a report that comes from servers taking turns. */
export type Contest = Pick<SuiteReport, "servers" | "llamaBench" | "ratios" | "failed">;

/** Lets all take turns on the same prompts; what fails is in the report. */
export async function contest(
  servers: readonly ModelServer[],
  options: ContestOptions,
): Promise<Contest> {
  const { settings, llamaPrograms, busy, signal, onProgress } = options;
  const turns = new Map<ModelServer, Turn[]>(servers.map((server) => [server, []]));
  const own: LlamaBenchRound[] = [];
  let sizes: readonly PromptSize[] = [];
  const players: readonly (ModelServer | LlamaPrograms)[] = [
    ...servers,
    ...(llamaPrograms ? [llamaPrograms] : []),
  ];
  await alternate(players, settings.rounds, async (player, round) => {
    const isServer = "start" in player;
    onProgress(
      `Round ${round + 1} of ${settings.rounds}: ${isServer ? player.name : LLAMA_BENCH}`,
    );
    if (!isServer) return void own.push(await ownTurn(player, round, options));
    const played = await playTurn(player, { round, settings, sizes, busy, signal, onProgress });
    sizes = played.sizes;
    turns.get(player)?.push(played.turn);
    if (played.turn.error) onProgress(`${player.name} failed: ${played.turn.error.message}`);
  });
  const reports = servers.map((server) => serverReport(server, turns.get(server) ?? []));
  const llama = llamaPrograms && { version: llamaPrograms.version, ...llamaMedians(own) };
  const rounds = [...reports.flatMap((report) => report.rounds), ...own];
  const runs = reports.flatMap((report) => report.rounds).flatMap((round) => round.runs);
  return {
    servers: reports,
    llamaBench: llama,
    ratios: ratiosOf(reports, llama),
    failed: [...rounds, ...runs].filter(({ error }) => error !== null).length,
  };
}

async function ownTurn(
  { program }: LlamaPrograms,
  round: number,
  { settings, modelPath, run, logPath, busy, signal, onProgress }: ContestOptions,
): Promise<LlamaBenchRound> {
  const busyPercent = await busy();
  const { threads, lengths, concurrency } = settings;
  const start = { logPath };
  try {
    const figures = await llamaBench({
      ...{ run, start, program, modelPath, threads, lengths, concurrency },
    });
    return { round, busyPercent, figures, error: null };
  } catch (error) {
    signal.throwIfAborted();
    onProgress(`${LLAMA_BENCH} failed: ${toAppError(error).message}`);
    return { round, busyPercent, figures: [], error: toAppError(error).toInfo() };
  }
}

function llamaMedians(rounds: readonly LlamaBenchRound[]): Omit<LlamaBenchReport, "version"> {
  const keyOf = ({ kind, tokens, concurrency }: LlamaBenchFigure) =>
    [kind, tokens, concurrency].join(" ");
  const groups = Map.groupBy(rounds.flatMap(({ figures }) => figures), keyOf);
  const medians = [...groups.values()].flatMap((figures) => {
    const [first] = figures;
    const middle = median(figures.map(({ tokensPerSecond }) => tokensPerSecond));
    return first && middle !== null ? [{ ...first, tokensPerSecond: middle }] : [];
  });
  return { rounds, medians };
}
