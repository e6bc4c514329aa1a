import type { ErrorInfo } from "../core/errors.ts";
import type { Answered, BenchSettings, Measured, Run, RunKey } from "./measure.ts";
import { mean, median, type Percentiles, percentiles } from "./statistics.ts";

/** Times between two pieces of text of one answer or of many, in milliseconds. */
export interface Gaps extends Percentiles {
  readonly mean: number;
  readonly max: number;
}

/** The raw figures of one request; those that need text or a second token may be null. */
export interface RunReport extends RunKey {
  /** As the endpoint counts them, chat template included. */
  readonly promptTokens: number | null;
  /** Of these, taken from a cache. */
  readonly cachedTokens: number | null;
  readonly completionTokens: number | null;
  /** Pieces in which the text came: one for each token where the endpoint sends them singly. */
  readonly pieces: number | null;
  readonly finishReason: string | null;
  /** From sending the batch to the first text. */
  readonly ttftMs: number | null;
  /** From sending the batch to the last text. */
  readonly lastTextMs: number | null;
  /** From sending the batch to the end of the answer. */
  readonly endToEndMs: number | null;
  /** Prompt tokens ÷ TTFT. */
  readonly promptTokensPerSecond: number | null;
  /** (Tokens with text − 1) ÷ (last text − first text). */
  readonly decodeTokensPerSecond: number | null;
  readonly interTokenMs: Gaps | null;
  /** One step of decoding, on the mean; null where the engine does not tell. */
  readonly step: StepCost | null;
  /** Why the run failed; null of one that did not. */
  readonly error: ErrorInfo | null;
}

/** Figures of one prompt length, answer length and concurrency, over its good runs. */
export interface CellReport {
  readonly pp: number;
  readonly tg: number;
  readonly concurrency: number;
  readonly runs: number;
  readonly failed: number;
  /** Runs whose answer ended before `tg` tokens. */
  readonly short: number;
  /** Medians over the runs. */
  readonly promptTokens: number | null;
  readonly promptTokensPerSecond: number | null;
  readonly decodeTokensPerSecond: number | null;
  readonly ttftMs: number | null;
  readonly endToEndMs: number | null;
  /** Median over the batches: Σ completion tokens ÷ (last text of any − first text of any). */
  readonly outputTokensPerSecond: number | null;
  /** Median over the batches: Σ completion tokens ÷ (end of the last answer − sending). */
  readonly wallTokensPerSecond: number | null;
  readonly ttftPercentilesMs: Percentiles | null;
  /** Over all gaps of all runs. */
  readonly interTokenMs: Gaps | null;
  /** Medians over the runs. */
  readonly step: StepCost | null;
}

/** What one step of decoding costs, as the engine measures it, in milliseconds. */
export interface StepCost {
  readonly totalMs: number;
  /** Within the kernels, by kind of operation. */
  readonly kernelMs: Readonly<Record<string, number>>;
  /** All that is not in a kernel, as a share of the step. */
  readonly outsideShare: number;
}

/** Where and with what was measured; all that the numbers hold for. */
export interface BenchSubject {
  readonly tool: { readonly name: "exo"; readonly version: string };
  /** The machine that measured. */
  readonly machine: {
    readonly os: string;
    readonly arch: string;
    readonly cores: number;
    readonly deno: string;
  };
  readonly url: string;
  /** The model by its whole id. */
  readonly model: string;
  /** Nodes of the cluster that answered; null where the endpoint is not exo's. */
  readonly nodes:
    | readonly {
      readonly nodeId: string;
      readonly name: string;
      readonly version: string;
      readonly backends: readonly string[];
      readonly ramTotalBytes: number | null;
    }[]
    | null;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly finishedAt: string;
}

/** What `exo bench --json` prints. */
export interface BenchReport extends BenchSubject {
  readonly schemaVersion: 1;
  /** `partial`: `error` ended the bench before all cells were measured. */
  readonly outcome: "complete" | "partial";
  readonly settings: BenchSettings;
  /** Prompt lengths as asked for and as the endpoint counts them. */
  readonly sizes: readonly { readonly askedTokens: number; readonly reachedTokens: number }[];
  readonly cells: readonly CellReport[];
  readonly runs: readonly RunReport[];
  readonly failed: number;
  readonly error: ErrorInfo | null;
}

/** The report of what was measured, whole or in part. */
export function reportOf(
  { sizes, runs, stop }: Measured,
  settings: BenchSettings,
  subject: BenchSubject,
): BenchReport {
  return {
    schemaVersion: 1,
    ...subject,
    outcome: stop ? "partial" : "complete",
    settings,
    sizes: sizes.map(({ askedTokens, reachedTokens }) => ({ askedTokens, reachedTokens })),
    cells: cellsOf(runs),
    runs: runs.map(runOf),
    failed: runs.filter((run) => "error" in run).length,
    error: stop?.toInfo() ?? null,
  };
}

const NO_FIGURES = {
  promptTokens: null,
  cachedTokens: null,
  completionTokens: null,
  pieces: null,
  finishReason: null,
  ttftMs: null,
  lastTextMs: null,
  endToEndMs: null,
  promptTokensPerSecond: null,
  decodeTokensPerSecond: null,
  interTokenMs: null,
  step: null,
} as const;

/** The figures of each cell, in the order in which the cells first came. */
export function cellsOf(runs: readonly Run[]): CellReport[] {
  return [...groups(runs, cellKey)].map(cellOf);
}

/** The figures of one request. */
export function runOf(run: Run): RunReport {
  const { pp, tg, concurrency, repeat, index } = run;
  const key = { pp, tg, concurrency, repeat, index };
  if ("error" in run) return { ...key, ...NO_FIGURES, error: run.error };
  const { promptTokens, cachedTokens, completionTokens, finishReason, endToEndMs } = run.answer;
  const { piecesMs } = run.answer;
  const ttftMs = piecesMs[0] ?? null;
  const lastTextMs = piecesMs.at(-1) ?? null;
  const decodeMs = (lastTextMs ?? 0) - (ttftMs ?? 0);
  const decoded = tokensWithText(run.answer) - 1;
  return {
    ...key,
    promptTokens,
    cachedTokens,
    completionTokens,
    pieces: piecesMs.length,
    finishReason,
    ttftMs,
    lastTextMs,
    endToEndMs,
    promptTokensPerSecond: perSecond(promptTokens, ttftMs ?? 0),
    decodeTokensPerSecond: decoded > 0 ? perSecond(decoded, decodeMs) : null,
    interTokenMs: gapsOf(gaps(run)),
    step: stepOf(run.answer),
    error: null,
  };
}

/** The token that ends an answer is counted by most endpoints, and never seen. */
function tokensWithText({ completionTokens, finishReason, piecesMs }: Answered): number {
  const unseen = finishReason === "stop" ? 1 : 0;
  return Math.max(piecesMs.length, completionTokens - unseen);
}

function cellOf(runs: readonly Run[]): CellReport {
  const { pp, tg, concurrency } = runs[0] ?? { pp: 0, tg: 0, concurrency: 0 };
  const good = runs.map(runOf).filter(({ error }) => error === null);
  const numbers = (key: keyof RunReport) =>
    good.map((run) => run[key]).filter((value) => typeof value === "number");
  const middle = (key: keyof RunReport) => median(numbers(key));
  const batches = [...groups(good, ({ repeat }) => String(repeat))];
  return {
    pp,
    tg,
    concurrency,
    runs: runs.length,
    failed: runs.length - good.length,
    short: numbers("completionTokens").filter((count) => count < tg).length,
    promptTokens: middle("promptTokens"),
    promptTokensPerSecond: middle("promptTokensPerSecond"),
    decodeTokensPerSecond: middle("decodeTokensPerSecond"),
    ttftMs: middle("ttftMs"),
    endToEndMs: middle("endToEndMs"),
    outputTokensPerSecond: median(batches.map(outputSpeed).filter((speed) => speed !== null)),
    wallTokensPerSecond: median(batches.map(wallSpeed).filter((speed) => speed !== null)),
    ttftPercentilesMs: percentiles(numbers("ttftMs")),
    interTokenMs: gapsOf(runs.flatMap(gaps)),
    step: medianStep(good.flatMap(({ step }) => step ? [step] : [])),
  };
}

function stepOf({ decode }: Answered): StepCost | null {
  if (!decode || decode.steps === 0 || decode.milliseconds === 0) return null;
  const perStep = (ms: number) => ms / decode.steps;
  return stepCost(
    perStep(decode.milliseconds),
    Object.entries(decode.kernelMilliseconds).map(([kind, ms]) => [kind, perStep(ms)]),
  );
}

function stepCost(totalMs: number, kernels: readonly (readonly [string, number])[]): StepCost {
  const inside = kernels.reduce((sum, [, ms]) => sum + ms, 0);
  const outsideShare = Math.max(0, totalMs - inside) / totalMs;
  return { totalMs, kernelMs: Object.fromEntries(kernels), outsideShare };
}

function medianStep(steps: readonly StepCost[]): StepCost | null {
  const [first] = steps;
  if (!first) return null;
  const middle = (of: (step: StepCost) => number) => median(steps.map(of)) ?? 0;
  const kernels = Object.keys(first.kernelMs)
    .map((kind) => [kind, middle((step) => step.kernelMs[kind] ?? 0)] as const);
  return stepCost(middle(({ totalMs }) => totalMs), kernels);
}

function outputSpeed(batch: readonly RunReport[]): number | null {
  const first = Math.min(...batch.map(({ ttftMs }) => ttftMs ?? Infinity));
  const last = Math.max(...batch.map(({ lastTextMs }) => lastTextMs ?? -Infinity));
  return perSecond(tokensOf(batch), last - first);
}

function wallSpeed(batch: readonly RunReport[]): number | null {
  return perSecond(tokensOf(batch), Math.max(...batch.map(({ endToEndMs }) => endToEndMs ?? 0)));
}

function tokensOf(batch: readonly RunReport[]): number {
  return batch.reduce((sum, { completionTokens }) => sum + (completionTokens ?? 0), 0);
}

function perSecond(count: number, ms: number): number | null {
  return ms > 0 ? count / ms * 1_000 : null;
}

function gaps(run: Run): number[] {
  if ("error" in run) return [];
  const { piecesMs } = run.answer;
  return piecesMs.slice(1).map((at, index) => at - (piecesMs[index] ?? at));
}

function gapsOf(values: readonly number[]): Gaps | null {
  const points = percentiles(values);
  const middle = mean(values);
  if (!points || middle === null) return null;
  return { mean: middle, ...points, max: values.reduce((a, b) => Math.max(a, b)) };
}

function cellKey({ pp, tg, concurrency }: RunKey): string {
  return [pp, tg, concurrency].join(" ");
}

/** Items of one key together, in the order in which the keys first came. */
function groups<T>(items: readonly T[], keyOf: (item: T) => string): Iterable<readonly T[]> {
  return Map.groupBy(items, keyOf).values();
}

/** A table as text, cell by cell; whoever prints it lays it out. */
export interface ReportTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** The medians of each cell, for people. */
export function medianTable({ cells }: BenchReport): ReportTable {
  const head = ["PP", "TG", "AT ONCE", "PROMPT TOK/S", "DECODE TOK/S", "TTFT MS", "TOTAL MS"];
  const rows = cells.map((cell) => [
    `${cell.promptTokens ?? cell.pp}`,
    `${cell.tg}`,
    `${cell.concurrency}`,
    shown(cell.promptTokensPerSecond),
    shown(cell.decodeTokensPerSecond),
    shown(cell.ttftMs),
    shown(cell.endToEndMs),
    shown(cell.outputTokensPerSecond),
    `${cell.runs - cell.failed}/${cell.runs}`,
  ]);
  return { head: [...head, "ALL TOK/S", "RUNS"], rows };
}

/** Percentiles of each cell, for people: TTFT and the time between two tokens. */
export function percentileTable({ cells }: BenchReport): ReportTable {
  const head = ["PP", "TG", "AT ONCE", "TTFT P50", "P90", "P99", "INTER-TOKEN P50", "P90", "P99"];
  const rows = cells.map(({ pp, tg, concurrency, promptTokens, ...cell }) => [
    ...[promptTokens ?? pp, tg, concurrency].map(String),
    ...pointsOf(cell.ttftPercentilesMs),
    ...pointsOf(cell.interTokenMs),
  ]);
  return { head, rows };
}

/** Where a step of decoding goes, for people: milliseconds, and the share outside the kernels. */
export function stepTable({ cells }: BenchReport): ReportTable {
  const kinds = [...new Set(cells.flatMap(({ step }) => Object.keys(step?.kernelMs ?? {})))]
    .filter((kind) => cells.some(({ step }) => (step?.kernelMs[kind] ?? 0) > 0));
  const head = ["PP", "TG", "AT ONCE", "STEP MS", ...kinds.map((kind) => kind.toUpperCase())];
  const rows = cells.map(({ pp, tg, concurrency, promptTokens, step }) => [
    ...[promptTokens ?? pp, tg, concurrency].map(String),
    shown(step?.totalMs ?? null),
    ...kinds.map((kind) => shown(step?.kernelMs[kind] ?? null)),
    step ? `${(step.outsideShare * 100).toFixed(1)} %` : "-",
  ]);
  return { head: [...head, "OUTSIDE"], rows };
}

function pointsOf(points: Percentiles | null): string[] {
  return [points?.p50, points?.p90, points?.p99].map((value) => shown(value ?? null));
}

/** Three digits that matter are enough for people. */
function shown(value: number | null): string {
  if (value === null) return "-";
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}
