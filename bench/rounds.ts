import { ApiClient } from "../api/client.ts";
import { type ErrorInfo, toAppError } from "../core/errors.ts";
import { type Ask, type BenchSettings, measure, type Run } from "./measure.ts";
import { usageOf } from "./process_usage.ts";
import type { PromptSize } from "./prompt.ts";
import { cellsOf, runOf } from "./report.ts";
import type { ModelServer, RunningServer } from "./server.ts";
import { median } from "./statistics.ts";
import type { RoundReport, ServerMedians, ServerReport } from "./suite_report.ts";

/** Its answer shows that a server has loaded, whatever it says of itself. */
const FIRST_QUESTION = { prompt: "Hi", maxTokens: 1 };

/** One turn, on the way to a report. */
export interface Turn extends Omit<RoundReport, "runs"> {
  readonly runs: readonly Run[];
}

/**
 * The order of turns: all once, then all again, so that what changes on the machine meanwhile
 * meets all alike. Takes the next one only when the one before has ended.
 */
export async function alternate<T>(
  players: readonly T[],
  rounds: number,
  play: (player: T, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const player of players) await play(player, round);
  }
}

/** What a turn is given. */
export interface TurnOptions {
  readonly round: number;
  readonly settings: BenchSettings;
  /** Prompts that another turn has sized: all are asked the same. */
  readonly sizes: readonly PromptSize[];
  /** The share of the machine that is in use, in percent; null where nobody knows. */
  readonly busy: () => Promise<number | null>;
  readonly signal: AbortSignal;
  readonly onProgress: (line: string) => void;
}

/**
 * One turn of a server: it starts, answers and stops, so that nothing else runs in the turn of
 * another. Rejects only when `signal` is aborted.
 */
export async function playTurn(
  server: ModelServer,
  options: TurnOptions,
): Promise<{ turn: Turn; sizes: readonly PromptSize[] }> {
  const { round, signal } = options;
  const busyPercent = await options.busy();
  let turn: Turn = {
    ...{ round, busyPercent, loadMs: null, firstAnswerMs: null },
    ...{ loadPartsMs: {}, peakBytes: {}, runs: [], error: null },
  };
  let running: RunningServer | undefined;
  let sizes = options.sizes;
  try {
    running = await server.start();
    const { loadMs, loadPartsMs, loadStartedAt } = running;
    turn = { ...turn, loadMs, loadPartsMs };
    const ask = askerOf(running, signal);
    for await (const _ of ask(FIRST_QUESTION));
    turn = { ...turn, firstAnswerMs: performance.now() - loadStartedAt };
    const measured = await measure({ ...options.settings, repeat: 1 }, {
      ask,
      clock: performance,
      sizes,
      onProgress: ({ label }) => options.onProgress(`${server.name}: ${label}`),
    });
    sizes = measured.sizes;
    const runs = measured.runs.map((run) => ({ ...run, repeat: round }));
    turn = { ...turn, runs, peakBytes: peaksOf(running), error: infoOf(measured.stop) };
  } catch (error) {
    turn = { ...turn, error: infoOf(error) };
  }
  await running?.stop();
  signal.throwIfAborted();
  return { turn, sizes };
}

function infoOf(error: unknown): ErrorInfo | null {
  return error === undefined ? null : toAppError(error).toInfo();
}

function askerOf({ url, model }: RunningServer, signal: AbortSignal): Ask {
  const client = new ApiClient({ url, apiKey: undefined, signal });
  return ({ prompt, maxTokens }) => {
    const messages = [{ role: "user" as const, content: prompt }];
    return client.chat({ model, messages, maxTokens, temperature: 0 });
  };
}

function peaksOf({ pids }: RunningServer): Record<string, number> {
  const peaks = Object.entries(pids).map(([name, pid]) => [name, usageOf(pid)?.peakBytes] as const);
  return Object.fromEntries(
    peaks.flatMap(([name, bytes]) => bytes === undefined ? [] : [[name, bytes]]),
  );
}

/** The report of one server over its turns. */
export function serverReport(
  { name, version, settings }: Pick<ModelServer, "name" | "version" | "settings">,
  turns: readonly Turn[],
): ServerReport {
  const rounds = turns.map((turn) => ({ ...turn, runs: turn.runs.map(runOf) }));
  return { name, version, settings, medians: mediansOf(turns), rounds };
}

function mediansOf(turns: readonly Turn[]): ServerMedians {
  const middle = (key: "loadMs" | "firstAnswerMs") =>
    median(turns.map((turn) => turn[key]).filter((value) => value !== null));
  return {
    loadMs: middle("loadMs"),
    firstAnswerMs: middle("firstAnswerMs"),
    loadPartsMs: mediansByName(turns.map(({ loadPartsMs }) => loadPartsMs)),
    peakBytes: mediansByName(turns.map(({ peakBytes }) => peakBytes)),
    cells: cellsOf(turns.flatMap(({ runs }) => runs)),
  };
}

function mediansByName(tables: readonly Readonly<Record<string, number>>[]) {
  const named = Map.groupBy(tables.flatMap((table) => Object.entries(table)), ([name]) => name);
  return Object.fromEntries(
    [...named].map(([name, entries]) => [name, median(entries.map(([, value]) => value)) ?? 0]),
  );
}
