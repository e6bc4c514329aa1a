import type { GgufHeader } from "../core/gguf.ts";
import { MIB } from "../core/units.ts";
import type { BoundModel } from "../engines/engine.ts";
import type { Machine } from "./machine.ts";
import { QUIET_PERCENT_MAX } from "./process_usage.ts";
import { median } from "./statistics.ts";
import type { LlamaBenchFigure, ModelReport, SuiteReport } from "./suite_report.ts";

/** What one turn of exo's engine is to do. */
export interface EngineTask {
  readonly model: BoundModel;
  /** Tokens of the prompt whose reading is measured. */
  readonly pp: number;
  /** Tokens that are generated, after a short prompt. */
  readonly tg: number;
  /** Tokens of that prompt, or the fewest that the chat template leaves room for. */
  readonly shortPp: number;
  /** Sequences at once, beside the one that is measured alone. */
  readonly concurrency: readonly number[];
}

/** What bringing the weights into memory cost. */
export interface LoadFigures {
  /** What a runner's state calls LoadModel to Loaded. */
  readonly ms: number;
  /** Most resident memory meanwhile, less what was resident before; null without /proc. */
  readonly peakGrowthBytes: number | null;
}

/** What one turn of exo's engine found. */
export interface EngineFigures {
  readonly load: LoadFigures;
  /** From the submission until the prompt was read. */
  readonly prompt: { readonly tokens: number; readonly tokensPerSecond: number };
  readonly decode: {
    readonly promptTokens: number;
    readonly tokens: number;
    readonly tokensPerSecond: number;
    readonly stepMs: number;
    /** Of it, within the kernels, by kind of operation. */
    readonly kernelMs: Readonly<Record<string, number>>;
  };
  /** Of all sequences together. */
  readonly atOnce: readonly { readonly concurrency: number; readonly tokensPerSecond: number }[];
}

/** One turn of each, right after one another. */
export interface EngineRound {
  readonly round: number;
  readonly threads: number;
  /** Share of the machine that others used just before a turn, at most. */
  readonly busyPercent: number | null;
  readonly exo: EngineFigures;
  readonly llamaCpp: readonly LlamaBenchFigure[];
  /** How fast a plain loop reads as many bytes as a token's weights have. */
  readonly readBytesPerSecond: number;
}

/** The model, and what of it decoding reads. */
export interface EngineModel extends ModelReport {
  /** Of all tensors, as the file has them. */
  readonly weightBytes: number;
  /** Of those tensors that are read for each token. */
  readonly tokenBytes: number;
}

/** What `deno task bench:engine` prints. */
export interface EngineReport {
  readonly schemaVersion: 1;
  readonly tool: SuiteReport["tool"];
  readonly command: string;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly machine: Machine;
  readonly model: EngineModel;
  readonly settings: {
    readonly pp: number;
    readonly tg: number;
    readonly concurrency: readonly number[];
    readonly threads: readonly number[];
    readonly rounds: number;
    /** Version of the peer. */
    readonly llamaCpp: string;
  };
  readonly rounds: readonly EngineRound[];
  readonly rows: readonly EngineRow[];
}

/** A median of ours beside what it is held against. */
export interface EngineRow {
  readonly metric: string;
  readonly threads: number;
  readonly unit: "tok/s" | "GB/s" | "ms" | "MiB";
  readonly ours: number;
  /** Llama.cpp's, the read loop's, the whole step's or the weights'; null where nothing compares. */
  readonly against: number | null;
  /** Ours divided by that. */
  readonly ratio: number | null;
  /** The ratio that issue 5 asks for; null where it asks for none. */
  readonly asked: { readonly ratio: number; readonly better: "higher" | "lower" } | null;
}

/** The sizes of a model whose head may be its embedding: of one that is not, one row is read. */
export function weightSizes(
  { tensors }: GgufHeader,
): Pick<EngineModel, "weightBytes" | "tokenBytes"> {
  const hasHead = tensors.some(({ name }) => name === "output.weight");
  const total = (list: GgufHeader["tensors"]) =>
    list.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
  const read = tensors.filter(({ name }) => !hasHead || name !== "token_embd.weight");
  return { weightBytes: total(tensors), tokenBytes: total(read) };
}

/** Weights from which on a step's other costs are asked to be small, and memory counts. */
const LARGE_BYTES = 200 * MIB;

/** The medians over the rounds, row by row, with what issue 5 asks for. */
export function engineRows(
  rounds: readonly EngineRound[],
  model: Pick<EngineModel, "weightBytes" | "tokenBytes">,
): EngineRow[] {
  const byThreads = Map.groupBy(rounds, ({ threads }) => threads);
  return [...byThreads].flatMap(([threads, own]) => [
    ...speedRows(own, { ...model, threads }),
    ...costRows(own, { ...model, threads }),
  ]);
}

interface Measured extends Pick<EngineModel, "weightBytes" | "tokenBytes"> {
  readonly threads: number;
}

/** Beside llama.cpp, which issue 5 asks to outrun on a small model alone. */
function speedRows(
  rounds: readonly EngineRound[],
  { threads, weightBytes }: Measured,
): EngineRow[] {
  const counts = new Set(rounds.flatMap(({ exo }) => exo.atOnce.map((one) => one.concurrency)));
  const speed = (metric: string, ratio: number, values: readonly [Figure, Figure]) =>
    row({ metric, threads, unit: "tok/s" }, values, isLarge(weightBytes) ? null : higher(ratio));
  const theirs = (kind: LlamaBenchFigure["kind"], concurrency = 1) =>
    middle(
      rounds,
      ({ llamaCpp }) =>
        llamaCpp.find((one) => one.kind === kind && one.concurrency === concurrency)
          ?.tokensPerSecond,
    );
  const atOnce = (count: number) =>
    middle(
      rounds,
      ({ exo }) => exo.atOnce.find(({ concurrency }) => concurrency === count)?.tokensPerSecond,
    );
  const prefill = middle(rounds, ({ exo }) => exo.prompt.tokensPerSecond);
  const decode = middle(rounds, ({ exo }) => exo.decode.tokensPerSecond);
  return [
    ...speed("prefill", 2, [prefill, theirs("prompt")]),
    ...speed("decode", threads === 1 ? 1.2 : 1.3, [decode, theirs("decode")]),
    ...[...counts].flatMap((count) =>
      speed(`decode, ${count} at once`, count >= 8 ? 2.5 : 2, [
        atOnce(count),
        theirs("decode", count),
      ])
    ),
  ];
}

/** Beside what the machine can do, and what the model weighs. */
function costRows(rounds: readonly EngineRound[], measured: Measured): EngineRow[] {
  const { threads, tokenBytes, weightBytes } = measured;
  const of = (figure: (round: EngineRound) => Figure) => middle(rounds, figure);
  return [
    ...row(
      { metric: "weights read, against a plain loop", threads, unit: "GB/s" },
      [
        of(({ exo }) => exo.decode.tokensPerSecond * tokenBytes / 1e9),
        of(({ readBytesPerSecond }) => readBytesPerSecond / 1e9),
      ],
      higher(0.7),
    ),
    ...row(
      { metric: "outside the kernels, of a step", threads, unit: "ms" },
      [of(({ exo }) => outsideMs(exo)), of(({ exo }) => exo.decode.stepMs)],
      lower(isLarge(weightBytes) ? 0.03 : 0.1),
    ),
    ...row(
      { metric: "LoadModel to Loaded", threads, unit: "ms" },
      [of(({ exo }) => exo.load.ms), null],
      null,
    ),
    ...row(
      { metric: "peak memory of loading, against the weights", threads, unit: "MiB" },
      [
        of(({ exo: { load } }) => load.peakGrowthBytes && load.peakGrowthBytes / MIB),
        weightBytes / MIB,
      ],
      isLarge(weightBytes) ? lower(1.15) : null,
    ),
  ];
}

type Figure = number | null | undefined;

function middle(rounds: readonly EngineRound[], figure: (round: EngineRound) => Figure) {
  return median(rounds.map(figure).filter((value) => typeof value === "number"));
}

/** None where nothing was measured. */
function row(
  name: Pick<EngineRow, "metric" | "threads" | "unit">,
  [ours, against]: readonly [Figure, Figure],
  asked: EngineRow["asked"],
): EngineRow[] {
  if (typeof ours !== "number") return [];
  const ratio = against ? ours / against : null;
  return [{ ...name, ours, against: against ?? null, ratio, asked }];
}

const isLarge = (weightBytes: number) => weightBytes >= LARGE_BYTES;
const higher = (ratio: number) => ({ ratio, better: "higher" }) as const;
const lower = (ratio: number) => ({ ratio, better: "lower" }) as const;

function outsideMs({ decode: { stepMs, kernelMs } }: EngineFigures): number {
  return Math.max(0, stepMs - Object.values(kernelMs).reduce((sum, ms) => sum + ms, 0));
}

/** Names of what `cellsOf` gives. */
export const ENGINE_HEAD = ["What", "Threads", "exo", "Against", "Ratio", "Asked"] as const;

/** The rows as lines for a terminal. */
export function engineLines({ rows, rounds, settings }: EngineReport): string[] {
  const shown = [ENGINE_HEAD, ...rows.map(cellsOf)];
  const widths = ENGINE_HEAD.map((_, at) => Math.max(...shown.map((row) => row[at]?.length ?? 0)));
  const lines = shown.map((row) => row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  "));
  const noisy = rounds.filter(({ busyPercent }) => (busyPercent ?? 0) > QUIET_PERCENT_MAX).length;
  const against = `Speeds against llama.cpp ${settings.llamaCpp}; medians of ${settings.rounds}` +
    (noisy > 0 ? `; others used the machine before ${noisy} of ${rounds.length} turns` : "");
  // Steps, since the first token comes of the prompt.
  const short = rounds.filter(({ exo }) => exo.decode.tokens < settings.tg - 1);
  return [
    ...lines.map((line) => line.trimEnd()),
    against,
    ...short.map(({ round, threads, exo }) =>
      `Round ${round + 1}, threads: ${threads}: the answer ended after ${
        exo.decode.tokens + 1
      } tokens`
    ),
  ];
}

/** A row as a table shows it. */
export function cellsOf(
  { metric, threads, unit, ours, against, ratio, asked }: EngineRow,
): string[] {
  const holds = ratio !== null && asked !== null &&
    (asked.better === "higher" ? ratio >= asked.ratio : ratio <= asked.ratio);
  const limit = asked && `${asked.better === "higher" ? "≥" : "≤"} ${asked.ratio}`;
  return [
    metric,
    String(threads),
    `${digits(ours)} ${unit}`,
    against === null ? "-" : `${digits(against)} ${unit}`,
    ratio === null ? "-" : digits(ratio),
    limit === null ? "-" : `${limit}${holds ? "" : " (missed)"}`,
  ];
}

/** Three digits that matter are enough for people. */
function digits(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3);
}
