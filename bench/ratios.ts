import { MIB } from "../core/units.ts";
import type { CellReport } from "./report.ts";
import type { LlamaBenchReport, Ratio, ServerMedians, ServerReport } from "./suite_report.ts";

/** Name under which llama.cpp's own programs stand in the ratios. */
export const LLAMA_BENCH = "llama-bench";

type Figure = number | null | undefined;

/** Ours divided by each peer's, wherever both have a figure. */
export function ratiosOf(
  servers: readonly ServerReport[],
  llamaBench: LlamaBenchReport | null,
): Ratio[] {
  const [ours, ...peers] = servers;
  if (!ours) return [];
  const against = peers.flatMap((peer) => serverRatios(ours.medians, peer));
  return llamaBench ? [...against, ...llamaBenchRatios(ours.medians, llamaBench)] : against;
}

function serverRatios(ours: ServerMedians, { name, medians: theirs }: ServerReport): Ratio[] {
  const mib = ({ peakBytes }: ServerMedians) => (peakBytes["model"] ?? NaN) / MIB;
  return [
    ...theirs.cells.flatMap((cell) => {
      const own = ours.cells.find((one) => isSameCell(one, cell));
      return own ? cellRatios(name, own, cell) : [];
    }),
    ...ratio(name, "load to first answer", "ms", ours.firstAnswerMs, theirs.firstAnswerMs),
    ...ratio(name, "load to ready", "ms", ours.loadMs, theirs.loadMs),
    ...ratio(
      name,
      "LoadModel to Loaded, against start to ready",
      "ms",
      ours.loadPartsMs["loadModel"],
      theirs.loadMs,
    ),
    ...ratio(name, "peak memory of the model's process", "MiB", mib(ours), mib(theirs)),
  ];
}

function cellRatios(peer: string, ours: CellReport, theirs: CellReport): Ratio[] {
  const speed = (metric: Metric, key: keyof CellReport) =>
    ratio(peer, nameOf(metric, theirs), "tok/s", numberOf(ours[key]), numberOf(theirs[key]));
  return [
    ...speed("prompt", "promptTokensPerSecond"),
    ...speed("decode", "decodeTokensPerSecond"),
    ...(theirs.concurrency > 1 ? speed("output of all", "outputTokensPerSecond") : []),
    ...ratio(peer, nameOf("first token", theirs), "ms", ours.ttftMs, theirs.ttftMs),
  ];
}

/**
 * Its programs know no HTTP, no chat template and no sampling; ours have all that in their figures.
 * Of several sequences at once only the sum is compared, since they share the time.
 */
function llamaBenchRatios(ours: ServerMedians, { medians }: LlamaBenchReport): Ratio[] {
  return medians.flatMap(({ kind, tokens, concurrency, tokensPerSecond: theirs }) => {
    const cell = ours.cells.find((one) =>
      one.concurrency === concurrency && (kind === "prompt" ? one.pp : one.tg) === tokens
    );
    if (!cell) return [];
    const speed = (metric: Metric, own: Figure) =>
      ratio(LLAMA_BENCH, nameOf(metric, cell), "tok/s", own, theirs);
    if (concurrency === 1) {
      return kind === "prompt"
        ? speed("prompt", cell.promptTokensPerSecond)
        : speed("decode", cell.decodeTokensPerSecond);
    }
    return kind === "prompt" ? [] : speed("output of all", cell.outputTokensPerSecond);
  });
}

type Metric = "prompt" | "decode" | "output of all" | "first token";

function nameOf(metric: Metric, { pp, tg, concurrency }: CellReport): string {
  const tokens = metric === "prompt" || metric === "first token" ? `pp ${pp}` : `tg ${tg}`;
  return `${metric}, ${tokens}${concurrency > 1 ? `, ${concurrency} at once` : ""}`;
}

function isSameCell(a: CellReport, b: CellReport): boolean {
  return a.pp === b.pp && a.tg === b.tg && a.concurrency === b.concurrency;
}

function numberOf(value: unknown): Figure {
  return typeof value === "number" ? value : null;
}

/** None where a side has no figure, or nothing to divide by. */
function ratio(
  peer: string,
  metric: string,
  unit: Ratio["unit"],
  ours: Figure,
  theirs: Figure,
): Ratio[] {
  if (!isFigure(ours) || !isFigure(theirs) || theirs === 0) return [];
  const better = unit === "tok/s" ? "higher" : "lower";
  return [{ peer, metric, unit, better, ours, theirs, ratio: ours / theirs }];
}

function isFigure(value: Figure): value is number {
  return typeof value === "number" && Number.isFinite(value);
}
