import { median, percentile } from "./statistics.ts";

/** What a runner is to do. */
export interface RunnersTask {
  /** A GGUF file. */
  readonly path: string;
  readonly seconds: number;
  /** Runners that begin at the same time, and the folder where each says that it could. */
  readonly count: number;
  readonly folder: string;
}

/** What a runner has done. */
export interface RunnerFigures {
  /** Between one token and the next. */
  readonly gapsMs: readonly number[];
}

/** Runners at once. */
export interface RunnersPlayer {
  readonly name: string;
  readonly count: number;
  /** Threads of each; undefined leaves the number to them. */
  readonly threads: number | undefined;
}

/** What they did together. */
export interface RunnersTurn {
  readonly player: string;
  readonly round: number;
  /** What others used of the machine just before, in percent. */
  readonly busyPercent: number | null;
  /** Of all runners together. */
  readonly tokensPerSecond: number;
  /** Between two tokens of the slowest runner. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** One runner, several, and several that share the cores out. */
export function runnersPlayers(runners: number, cores: number): RunnersPlayer[] {
  const share = Math.max(1, Math.floor(cores / runners));
  return [
    { name: "alone", count: 1, threads: undefined },
    { name: `${runners} at once`, count: runners, threads: undefined },
    { name: `${runners} at once, threads: ${share}`, count: runners, threads: share },
  ];
}

/** The figures of all runners of a turn as one. */
export function runnersTurn(
  figures: readonly RunnerFigures[],
  rest: Pick<RunnersTurn, "player" | "round" | "busyPercent">,
): RunnersTurn {
  const all = figures.map(({ gapsMs }) => gapsMs);
  const slowest = (percent: number) =>
    Math.max(...all.map((gaps) => percentile(gaps, percent) ?? 0));
  const tokensPerSecond = all.reduce((sum, gaps) => sum + rate(gaps), 0);
  return { ...rest, tokensPerSecond, p50Ms: slowest(50), p99Ms: slowest(99) };
}

function rate(gapsMs: readonly number[]): number {
  return gapsMs.length / gapsMs.reduce((sum, gap) => sum + gap, 0) * 1_000;
}

/** A line for each player: the medians of its turns. */
export function runnersLines(turns: readonly RunnersTurn[]): string[] {
  return [...Map.groupBy(turns, ({ player }) => player)].map(([name, own]) => {
    const middle = (key: "tokensPerSecond" | "p50Ms" | "p99Ms") =>
      (median(own.map((turn) => turn[key])) ?? 0).toFixed(1).padStart(6);
    const [rate, p50, p99] = [middle("tokensPerSecond"), middle("p50Ms"), middle("p99Ms")];
    return `${name.padEnd(24)}${rate} tok/s  p50 ${p50} ms  p99 ${p99} ms`;
  });
}
