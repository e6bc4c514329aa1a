import type { ErrorInfo } from "../../core/errors.ts";
import type { Bar } from "../bar.ts";
import type { Machine } from "../machine.ts";
import { median } from "../statistics.ts";
import type { ModelReport, SuiteReport } from "../suite_report.ts";
import { EXO_LAYOUTS, MACHINES, ONE_NODE, PIPELINE_TWO, SMALL_LAYOUTS } from "./layout.ts";
import type { Program } from "./player.ts";

/** What was asked of every layout. */
export interface GroupSettings {
  readonly rounds: number;
  /** Threads of each machine. */
  readonly threads: number;
  /** Tokens of an answer. */
  readonly tg: number;
  /** Streams at once. */
  readonly streams: number;
  /** Latency of each link, one way, of the turns with a slow network. */
  readonly delayMs: number;
}

/** What one turn found. */
export interface GroupFigures {
  /** Of one stream. */
  readonly aloneTokensPerSecond: number;
  /** Of all streams at once, together. */
  readonly togetherTokensPerSecond: number;
  /** Of one stream over slow links; null on one machine. */
  readonly delayedTokensPerSecond: number | null;
  /** Between machines, frames of the network with their headers; null on one machine. */
  readonly bytesPerToken: number | null;
}

/** One turn of a program in one layout. */
export interface GroupTurn {
  readonly program: Program;
  readonly layout: string;
  readonly round: number;
  readonly busyPercent: number | null;
  readonly figures: GroupFigures | null;
  readonly error: ErrorInfo | null;
}

/** One figure of both; null where a program was not measured, or has no such layout. */
export interface GroupRow {
  readonly what: string;
  readonly unit: string;
  readonly ours: number | null;
  readonly theirs: number | null;
  /** Ours ÷ theirs. */
  readonly ratio: number | null;
  /** What issue 9 asks for; null where it asks for nothing. */
  readonly asked: Bar | null;
}

/** All that `deno task bench:group` measures. */
export interface GroupReport {
  readonly schemaVersion: 1;
  readonly tool: SuiteReport["tool"];
  readonly command: string;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly machine: Machine;
  readonly model: ModelReport;
  readonly llamaCpp: string | null;
  readonly settings: GroupSettings;
  readonly turns: readonly GroupTurn[];
  readonly rows: readonly GroupRow[];
  readonly failed: number;
}

/** The bars of issue 9; that of the links is of three machines, in a pipeline. */
const SPREADING: Bar = { of: "ratio", limit: 1, better: "higher" };
const STREAMS: Bar = { of: "ours", limit: 1.5, better: "higher" };
const LINKS: Bar = { of: "ours", limit: 1.3, better: "lower" };

type Figure = (figures: GroupFigures) => number | null;
type Middle = (program: Program, layout: string, figure: Figure) => number | null;

/** What the turns come to: medians of all rounds, and ratios of medians. */
export function groupRows(turns: readonly GroupTurn[], settings: GroupSettings): GroupRow[] {
  const middle: Middle = (program, layout, figure) =>
    median(
      turns.filter((turn) => turn.program === program && turn.layout === layout)
        .flatMap(({ figures }) => figures ? figure(figures) ?? [] : []),
    );
  const row = (
    what: string,
    unit: string,
    value: (program: Program) => number | null,
    asked: Bar | null = null,
  ) => {
    const [ours, theirs] = [value("exo"), value("llama.cpp")];
    return { what, unit, ours, theirs, ratio: quotient(ours, theirs), asked };
  };
  const { streams, delayMs } = settings;
  const alone: Figure = (figures) => figures.aloneTokensPerSecond;
  const together: Figure = (figures) => figures.togetherTokensPerSecond;
  const two = PIPELINE_TWO.name;
  const whole = EXO_LAYOUTS.filter(({ isOfSmallModel }) => !isOfSmallModel);
  const groups = whole.filter(({ ranks }) => ranks > 1);
  return [
    ...whole.map(({ name }) =>
      row(`decode, ${name}`, "tok/s", (program) => middle(program, name, alone))
    ),
    row(
      "two nodes ÷ one",
      "×",
      (program) => quotient(middle(program, two, alone), middle(program, ONE_NODE.name, alone)),
      SPREADING,
    ),
    row(
      `${streams} streams ÷ one, two nodes`,
      "×",
      (program) => quotient(middle(program, two, together), middle(program, two, alone)),
      STREAMS,
    ),
    ...[...groups, ...SMALL_LAYOUTS].map(({ name }) =>
      row(
        `added by links of ${delayMs} ms, ${name}`,
        "ms per token",
        (program) => middle(program, name, addedMs),
      )
    ),
    ...[...groups, ...SMALL_LAYOUTS].flatMap(({ name, hops, ranks }) =>
      hops === null ? [] : [
        row(
          `the same ÷ (${hops} hops × ${delayMs} ms), ${name}`,
          "×",
          (program) => quotient(middle(program, name, addedMs), hops * delayMs),
          ranks === MACHINES ? LINKS : null,
        ),
      ]
    ),
    ...groups.map(({ name }) =>
      row(
        `between nodes, ${name}`,
        "bytes per token",
        (program) => middle(program, name, (figures) => figures.bytesPerToken),
      )
    ),
  ];
}

/** Milliseconds that a token takes longer over slow links. */
function addedMs(figures: GroupFigures): number | null {
  const { aloneTokensPerSecond, delayedTokensPerSecond } = figures;
  if (delayedTokensPerSecond === null) return null;
  return 1_000 / delayedTokensPerSecond - 1_000 / aloneTokensPerSecond;
}

function quotient(dividend: number | null, divisor: number | null): number | null {
  return dividend === null || divisor === null || divisor === 0 ? null : dividend / divisor;
}
