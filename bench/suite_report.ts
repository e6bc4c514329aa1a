import type { ErrorInfo } from "../core/errors.ts";
import type { Machine } from "./machine.ts";
import type { BenchSettings } from "./measure.ts";
import type { CellReport, RunReport } from "./report.ts";

/** What `deno task bench` prints, and `bench/results/latest.json` keeps. */
export interface SuiteReport {
  readonly schemaVersion: 1;
  readonly tool: {
    readonly name: "exo";
    readonly version: string;
    /** Of the sources that were measured; null outside a git checkout. */
    readonly commit: string | null;
    /** Whether tracked files differed from that commit. */
    readonly hasChanges: boolean;
  };
  readonly command: string;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly machine: Machine;
  readonly model: ModelReport;
  readonly settings: SuiteSettings;
  readonly node: NodeReport;
  /** Exo first, then the peers, in the order in which they took turns. */
  readonly servers: readonly ServerReport[];
  /** Figures of llama.cpp's own benchmark programs, which took their turns among the servers. */
  readonly llamaBench: LlamaBenchReport | null;
  readonly ratios: readonly Ratio[];
  /** Requests and turns that failed. */
  readonly failed: number;
}

/** The file that all served. */
export interface ModelReport {
  /** Name without its folder. */
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** What was asked of all. `repeat` is 1: repeats are rounds here. */
export interface SuiteSettings extends BenchSettings {
  readonly rounds: number;
  readonly threads: number;
}

/** What a node costs before it has a model. */
export interface NodeReport {
  /** From the start of the process to the first 200 of `/readyz`. */
  readonly startMs: Sample;
  readonly idle: {
    readonly seconds: number;
    /** Of one core; null on systems without /proc. */
    readonly cpuPercent: number | null;
    readonly residentBytes: number | null;
  };
}

/** A median with all that it was taken from; null of nothing. */
export interface Sample {
  readonly median: number | null;
  readonly all: readonly number[];
}

/** One server's figures. */
export interface ServerReport {
  readonly name: string;
  readonly version: string;
  readonly settings: string;
  readonly medians: ServerMedians;
  readonly rounds: readonly RoundReport[];
}

/** Medians over the rounds. */
export interface ServerMedians {
  /** From the order to load until it says that it is ready. */
  readonly loadMs: number | null;
  /** From the order to load to the end of a first answer, of one token to "Hi". */
  readonly firstAnswerMs: number | null;
  readonly loadPartsMs: Readonly<Record<string, number>>;
  /** Most resident memory of each process, by what it does; `model` holds the weights. */
  readonly peakBytes: Readonly<Record<string, number>>;
  readonly cells: readonly CellReport[];
}

/** One turn of one server: started, asked, stopped. */
export interface RoundReport {
  readonly round: number;
  /** Share of the machine that others used just before. */
  readonly busyPercent: number | null;
  readonly loadMs: number | null;
  readonly firstAnswerMs: number | null;
  readonly loadPartsMs: Readonly<Record<string, number>>;
  readonly peakBytes: Readonly<Record<string, number>>;
  readonly runs: readonly RunReport[];
  /** What ended the turn early. */
  readonly error: ErrorInfo | null;
}

/** `llama-bench`, and `llama-batched-bench` for more than one sequence at once. */
export interface LlamaBenchReport {
  readonly version: string;
  readonly rounds: readonly LlamaBenchRound[];
  readonly medians: readonly LlamaBenchFigure[];
}

/** One turn of these programs. */
export interface LlamaBenchRound {
  readonly round: number;
  readonly busyPercent: number | null;
  readonly figures: readonly LlamaBenchFigure[];
  readonly error: ErrorInfo | null;
}

/** A speed in tokens per second, of all sequences together. */
export interface LlamaBenchFigure {
  readonly kind: "prompt" | "decode";
  /** Prompt tokens of a `prompt` figure, generated tokens of a `decode` figure. */
  readonly tokens: number;
  readonly concurrency: number;
  readonly tokensPerSecond: number;
}

/** Ours divided by a peer's. */
export interface Ratio {
  readonly peer: string;
  readonly metric: string;
  readonly unit: "tok/s" | "ms" | "MiB";
  readonly better: "higher" | "lower";
  readonly ours: number;
  readonly theirs: number;
  readonly ratio: number;
}
