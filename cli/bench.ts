import { z } from "zod";
import { type BenchSettings, measure, type Measured } from "../bench/measure.ts";
import {
  type BenchReport,
  type BenchSubject,
  medianTable,
  percentileTable,
  reportOf,
  stepTable,
} from "../bench/report.ts";
import { AppError, type ErrorCode, toAppError } from "../core/errors.ts";
import { benchAsk } from "./bench_ask.ts";
import { BenchJson } from "./bench_json.ts";
import { defineCommand } from "./command.ts";
import { type BenchTarget, benchTarget } from "./bench_target.ts";
import type { Io } from "./io.ts";
import { type Output, red, table } from "./output.ts";
import { VERSION } from "./version.ts";

/** Exit codes of bench beside those of every command (design §4). */
const EXIT = { someRunsFailed: 6, environmentUnfit: 7, instanceLost: 8 } as const;

/** Limits of the lists and of what they hold. */
const LIST_LENGTH_MAX = 64;
const TOKENS_MAX = 16_777_216;
const CONCURRENCY_MAX = 1_024;
const REPEAT_MAX = 10_000;
const TIMEOUT_SECONDS_MAX = 604_800;

/** What the endpoint or the cluster cannot give, before anything is measured. */
const UNFIT: ReadonlySet<ErrorCode> = new Set(["placement_failed", "unsupported_parameter"]);

/** The instance was there when the bench began. */
const LOST: ReadonlySet<ErrorCode> = new Set([
  "instance_not_found",
  "instance_removed",
  "model_not_found",
  "not_ready",
]);

/** `exo bench`. */
export const bench = defineCommand({
  name: "bench",
  summary: "Measure how fast a model reads prompts and writes answers",
  description: "Every figure is measured here, on this machine's clock, so that --url may name " +
    "any OpenAI-compatible endpoint. An instance that runs is used; one that had to be made is " +
    "deleted at the end. Lists of equal length are paired, others combined. Exits with 6 when " +
    "runs failed, 7 when nothing can be measured, 8 when the instance was lost",
  example: [
    "bench smollm2",
    "bench smollm2 --pp 32,128 --tg 16 --repeat 5 --stream",
    "bench smollm2 --pp 128 --tg 32 --concurrency 1,2,4 --json",
  ],
  positionals: ["model"],
  args: z.object({
    model: z.string().min(1)
      .describe("Model id, a prefix that no other model shares, or the path of a model"),
    pp: z.string().default("512,2048").describe("Prompt lengths in tokens").meta({ value: "N,…" }),
    tg: z.string().default("128").describe("Answer lengths in tokens").meta({ value: "N,…" }),
    allCombinations: z.boolean().default(false)
      .describe("Measure each prompt length with each answer length, also of equal lists"),
    concurrency: z.string().default("1").describe("Requests at once").meta({ value: "N,…" }),
    repeat: z.number().int().min(1).max(REPEAT_MAX).default(3).describe("Runs that count"),
    warmup: z.number().int().min(0).max(REPEAT_MAX).default(1).describe("Runs before them"),
    timeout: z.number().int().min(1).max(TIMEOUT_SECONDS_MAX).default(7_200)
      .describe("Seconds that one answer may take"),
    stream: z.boolean().default(false)
      .describe("Show percentiles of the first token and of the time between tokens"),
    usePrefixCache: z.boolean().default(false)
      .describe("Let an exo read what prompts share from its cache, which it else may not"),
    profile: z.boolean().default(false)
      .describe("Show where a step of decoding goes: kernels by kind, and all else"),
  }),
  json: BenchJson,
  async run({ args, client, connect, out, io }) {
    const settings = settingsOf(args);
    const startedAt = new Date().toISOString();
    let prepared: BenchTarget;
    try {
      prepared = await benchTarget({ client, connect, out, io }, args.model);
    } catch (error) {
      if (!UNFIT.has(toAppError(error).code)) throw error;
      return tell(toAppError(error), EXIT.environmentUnfit, { out, io });
    }
    await using target = prepared;
    const { model } = target;
    const timeoutMs = args.timeout * 1_000;
    const measured = await measure(settings, {
      ask: benchAsk(client, {
        model,
        timeoutMs,
        isExo: target.nodes !== null,
        usePrefixCache: args.usePrefixCache,
        onRefused: () => out.note("The endpoint refuses ignore_eos: answers may end before --tg"),
      }),
      clock: performance,
      recover: () => target.recover(),
      onProgress: (progress) => out.progress(progress),
    });
    const subject = subjectOf(client.url, target, startedAt);
    const report = reportOf(measured, settings, subject);
    out.result(report, words(report, args));
    remark(report, out);
    return ended(measured, target, { out, io });
  },
});

interface Lists {
  readonly pp: string;
  readonly tg: string;
  readonly concurrency: string;
  readonly allCombinations: boolean;
  readonly repeat: number;
  readonly warmup: number;
}

/** @throws {AppError} `usage` for a list that cannot be read. */
function settingsOf({ allCombinations, repeat, warmup, ...lists }: Lists): BenchSettings {
  const pp = numbersIn(lists.pp, "pp", TOKENS_MAX);
  const tg = numbersIn(lists.tg, "tg", TOKENS_MAX);
  const arePaired = pp.length === tg.length && !allCombinations;
  const lengths = arePaired
    ? pp.map((pp, index) => ({ pp, tg: tg[index] ?? pp }))
    : pp.flatMap((pp) => tg.map((tg) => ({ pp, tg })));
  const concurrency = numbersIn(lists.concurrency, "concurrency", CONCURRENCY_MAX);
  return {
    // The same cell twice would be one cell with runs that cannot be told apart.
    lengths: [...Map.groupBy(lengths, ({ pp, tg }) => `${pp} ${tg}`).values()].flatMap(([one]) =>
      one ? [one] : []
    ),
    concurrency: [...new Set(concurrency)],
    repeat,
    warmup,
  };
}

function numbersIn(text: string, param: string, max: number): number[] {
  const numbers = text.trim().split(/\s*,\s*|\s+/)
    .map((word) => /^\d+$/.test(word) ? Number(word) : NaN);
  const areFit = numbers.every((number) => number >= 1 && number <= max);
  if (areFit && numbers.length <= LIST_LENGTH_MAX) return numbers;
  const needed = `up to ${LIST_LENGTH_MAX} whole numbers from 1 to ${max} needed`;
  throw new AppError("usage", `Cannot use --${param} "${text}": ${needed}`, {
    param,
    hint: `separate them by commas, as in --${param} 1,2,4`,
  });
}

function subjectOf(
  url: string,
  { model, nodes }: BenchTarget,
  startedAt: string,
): BenchSubject {
  const { os, arch } = Deno.build;
  const cores = navigator.hardwareConcurrency;
  return {
    tool: { name: "exo", version: VERSION },
    machine: { os, arch, cores, deno: Deno.version.deno },
    url,
    model,
    nodes,
    startedAt,
    finishedAt: new Date().toISOString(),
  };
}

function words(
  report: BenchReport,
  { stream, profile }: { readonly stream: boolean; readonly profile: boolean },
): string {
  if (report.cells.length === 0) return "";
  const tables = [
    medianTable(report),
    ...(stream ? [percentileTable(report)] : []),
    ...(profile ? [stepTable(report)] : []),
  ];
  return tables.map(({ head, rows }) => table(head, rows)).join("\n\n");
}

/** What people must know to read the table. */
function remark({ sizes, cells, runs }: BenchReport, out: Output): void {
  for (const { askedTokens, reachedTokens } of sizes) {
    if (askedTokens === reachedTokens) continue;
    out.note(`No prompt has ${askedTokens} tokens: ${reachedTokens} is the nearest`);
  }
  const short = cells.reduce((sum, cell) => sum + cell.short, 0);
  if (short > 0) out.note(`Answers that the model ended before --tg tokens: ${short}`);
  const cached = runs.filter(({ cachedTokens }) => (cachedTokens ?? 0) > 0).length;
  if (cached > 0) out.note(`Prompts read in part from a cache: ${cached}`);
  const reasons = Map.groupBy(
    runs.filter(({ error }) => error !== null),
    ({ error }) => error?.message ?? "",
  );
  for (const [reason, failed] of reasons) out.note(`Failed ${failed.length} times: ${reason}`);
}

/** The exit code; errors of the table of codes are thrown, so that the program tells them. */
function ended({ stop, runs }: Measured, target: BenchTarget, world: World): number {
  if (stop) {
    const wasThere = target.nodes !== null || stop.code !== "model_not_found";
    if (LOST.has(stop.code) && wasThere) {
      const hint = `exo bench ${target.model} starts anew; exo status shows what runs`;
      const lost = new AppError(stop.code, stop.message, { hint: stop.hint ?? hint });
      return tell(lost, EXIT.instanceLost, world);
    }
    if (UNFIT.has(stop.code)) return tell(stop, EXIT.environmentUnfit, world);
    throw stop;
  }
  const failed = runs.filter((run) => "error" in run).length;
  if (failed === 0) return 0;
  const message = `Cannot report all runs: ${failed} of ${runs.length} failed`;
  const hint = "the report says why, run by run; --json has all of it";
  return tell(new AppError("internal", message, { hint }), EXIT.someRunsFailed, world);
}

interface World {
  readonly out: Output;
  readonly io: Io;
}

/** Tells an error whose exit code is bench's own, as the program tells the others. */
function tell(error: AppError, exit: number, { out, io }: World): number {
  out.endProgress();
  if (out.isJson) io.stderr.write(`${JSON.stringify({ error: error.toInfo() })}\n`);
  else {
    io.stderr.write(`${red("error:", io.stderr, io.env)} ${error.message}\n`);
    if (error.hint) io.stderr.write(`hint: ${error.hint}\n`);
  }
  return exit;
}
