import type { Bar } from "./bar.ts";
import type { ErrorInfo } from "../core/errors.ts";
import type { Machine } from "./machine.ts";
import { median } from "./statistics.ts";
import type { ModelReport, SuiteReport } from "./suite_report.ts";

/** How tokens are drawn: the likeliest one, or as each server draws them when nobody says. */
export const SAMPLINGS = ["greedy", "default"] as const;
/** One of them. */
export type ServingSampling = (typeof SAMPLINGS)[number];

/** What is asked of each server. */
export interface ServingSettings {
  /** Tokens of the prompt and the answer of each stream. */
  readonly pp: number;
  readonly tg: number;
  /** Tokens of the long prompt. */
  readonly longPp: number;
  /** Streams at once. */
  readonly concurrency: readonly number[];
  readonly rounds: number;
  readonly threads: number;
}

/** Some streams at once, from their sending to the end of the last. */
export interface ThroughputFigures {
  readonly sampling: ServingSampling;
  readonly concurrency: number;
  /** Of all streams together, as the server counts them. */
  readonly completionTokens: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  /** What the measuring client took of one core meanwhile. */
  readonly clientCpuPercent: number;
}

/** Times between two pieces of text of the same stream, in milliseconds. */
export interface GapFigures {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Running streams alone, and while a long prompt that has arrived amid them is read. */
export interface IntrusionFigures {
  readonly streams: number;
  readonly alone: GapFigures;
  readonly meanwhile: GapFigures;
  /** From the long prompt's sending to its first text. */
  readonly longTtftMs: number;
  readonly clientCpuPercent: number;
}

/** A long prompt that is new, and the same again. */
export interface RepeatFigures {
  readonly promptTokens: number;
  readonly coldTtftMs: number;
  readonly repeatedTtftMs: number;
  /** Of the second prompt, as the server says. */
  readonly cachedTokens: number;
}

/** What one turn of one server found. */
export interface ServingFigures {
  readonly throughput: readonly ThroughputFigures[];
  readonly intrusion: IntrusionFigures;
  readonly repeats: readonly RepeatFigures[];
}

/** One turn of one server: started, asked, stopped. */
export interface ServingRound {
  readonly round: number;
  /** Share of the machine that others used just before. */
  readonly busyPercent: number | null;
  readonly figures: ServingFigures | null;
  /** What ended the turn early. */
  readonly error: ErrorInfo | null;
}

/** One server's rounds. */
export interface ServingServer {
  readonly name: string;
  readonly version: string;
  readonly settings: string;
  readonly rounds: readonly ServingRound[];
}

/** What `deno task bench:serving` prints. */
export interface ServingReport {
  readonly schemaVersion: 1;
  readonly tool: SuiteReport["tool"];
  readonly command: string;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly machine: Machine;
  readonly model: ModelReport;
  readonly settings: ServingSettings;
  /** Exo first, then the peer. */
  readonly servers: readonly ServingServer[];
  readonly rows: readonly ServingRow[];
  /** Turns that failed. */
  readonly failed: number;
}

/** A median of ours beside the peer's. */
export interface ServingRow {
  /** The table that it stands in: throughput by sampling, or times. */
  readonly group: ServingSampling | "times";
  readonly metric: string;
  readonly unit: "tok/s" | "ms" | "%";
  readonly ours: number;
  /** Null where the peer has no figure. */
  readonly theirs: number | null;
  /** Ours divided by theirs. */
  readonly ratio: number | null;
  /** What issue 6 asks for; null where it asks for nothing. */
  readonly asked: Bar | null;
}

/** Streams from which on batching is asked to pay. */
const BATCH_STREAMS_MIN = 4;

/** The bars of issue 6. */
const ALONE: Bar = { of: "ratio", limit: 1.3, better: "higher" };
const BATCHED: Bar = { of: "ratio", limit: 1.8, better: "higher" };
const P99_RISE: Bar = { of: "ours", limit: 250, better: "lower" };
const REPEATED_SHARE: Bar = { of: "ours", limit: 10, better: "lower" };

/** The rows of all rounds; those for which exo has no figure are left out. */
export function servingRows([exo, peer]: readonly ServingServer[]): ServingRow[] {
  const [ours, theirs] = [exo, peer].map((server) =>
    (server?.rounds ?? []).flatMap(({ figures }) => figures ?? [])
  );
  if (!ours || !theirs) return [];
  const row = (
    name: Pick<ServingRow, "group" | "metric" | "unit">,
    figure: (figures: ServingFigures) => number | undefined,
    asked: Bar | null = null,
  ): ServingRow[] => {
    const [mine, other] = [ours, theirs].map((rounds) =>
      median(rounds.flatMap((round) => figure(round) ?? []))
    );
    if (mine === null || mine === undefined) return [];
    const ratio = other ? mine / other : null;
    return [{ ...name, ours: mine, theirs: other ?? null, ratio, asked }];
  };
  const cells = ours[0]?.throughput ?? [];
  const streams = ours[0]?.intrusion.streams;
  return [
    ...cells.flatMap(({ sampling, concurrency }) =>
      row(
        { group: sampling, metric: `streams: ${concurrency}`, unit: "tok/s" },
        (figures) => throughputOf(figures, sampling, concurrency),
        concurrency === 1 ? ALONE : concurrency >= BATCH_STREAMS_MIN ? BATCHED : null,
      )
    ),
    ...row(time(`inter-token p50, ${streams} streams`, "ms"), (f) => f.intrusion.alone.p50),
    ...row(time(`inter-token p99, ${streams} streams`, "ms"), (f) => f.intrusion.alone.p99),
    ...row(time("p50 while a long prompt is read", "ms"), (f) => f.intrusion.meanwhile.p50),
    ...row(time("p99 while a long prompt is read", "ms"), (f) => f.intrusion.meanwhile.p99),
    ...row(
      time("rise of p99 by the long prompt", "ms"),
      ({ intrusion: { alone, meanwhile } }) => meanwhile.p99 - alone.p99,
      P99_RISE,
    ),
    ...row(time("first token of that prompt", "ms"), (f) => f.intrusion.longTtftMs),
    ...row(time("first token of a long prompt, cold", "ms"), (f) => ofRepeats(f, "coldTtftMs")),
    ...row(time("first token of it, repeated", "ms"), (f) => ofRepeats(f, "repeatedTtftMs")),
    ...row(
      time("repeated, against cold", "%"),
      ({ repeats }) =>
        median(repeats.map((one) => 100 * one.repeatedTtftMs / one.coldTtftMs)) ?? undefined,
      REPEATED_SHARE,
    ),
  ];
}

function time(metric: string, unit: "ms" | "%") {
  return { group: "times", metric, unit } as const;
}

function throughputOf(
  { throughput }: ServingFigures,
  sampling: ServingSampling,
  concurrency: number,
): number | undefined {
  return throughput.find((one) => one.sampling === sampling && one.concurrency === concurrency)
    ?.tokensPerSecond;
}

function ofRepeats({ repeats }: ServingFigures, key: "coldTtftMs" | "repeatedTtftMs") {
  return median(repeats.map((one) => one[key])) ?? undefined;
}
