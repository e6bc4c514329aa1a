import { z } from "zod";
import { AppError } from "../../core/errors.ts";
import type { Lengths } from "../measure.ts";
import type { RunProgram, StartOptions } from "../processes.ts";
import type { LlamaBenchFigure } from "../suite_report.ts";

/** What we read of a row of `llama-bench -o json`. */
const Row = z.object({
  n_prompt: z.number().int(),
  n_gen: z.number().int(),
  avg_ts: z.number().positive(),
});

/** What we read of a line of `llama-batched-bench --output-format jsonl`. */
const BatchedRow = z.object({
  pp: z.number().int(),
  tg: z.number().int(),
  pl: z.number().int(),
  speed_pp: z.number().positive(),
  speed_tg: z.number().positive(),
});

/** The figures in what `llama-bench -o json` prints. @throws {AppError} for anything else. */
export function parseLlamaBench(text: string): LlamaBenchFigure[] {
  const rows = parsed(z.array(Row).min(1), text, "llama-bench");
  return rows.map(({ n_prompt, n_gen, avg_ts }) => ({
    kind: n_gen === 0 ? "prompt" : "decode",
    tokens: n_gen === 0 ? n_prompt : n_gen,
    concurrency: 1,
    tokensPerSecond: avg_ts,
  }));
}

/** The figures in what `llama-batched-bench` prints as JSON, line by line, among other lines. */
export function parseBatchedBench(text: string): LlamaBenchFigure[] {
  const lines = text.split("\n").filter((line) => line.startsWith("{"));
  const rows = parsed(z.array(BatchedRow).min(1), `[${lines.join(",")}]`, "llama-batched-bench");
  return rows.flatMap(({ pp, tg, pl, speed_pp, speed_tg }): LlamaBenchFigure[] => [
    { kind: "prompt", tokens: pp, concurrency: pl, tokensPerSecond: speed_pp },
    { kind: "decode", tokens: tg, concurrency: pl, tokensPerSecond: speed_tg },
  ]);
}

function parsed<T>(schema: z.ZodType<T>, text: string, program: string): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  throw new AppError(
    "internal",
    `Cannot read what ${program} printed: found ${JSON.stringify(text.slice(0, 80))}, ` +
      "a list of its figures as JSON needed",
    { hint: "compare its version with bench/peers/versions.ts" },
  );
}

/** What llama.cpp's own programs are to measure. */
export interface LlamaBenchOptions {
  readonly run: RunProgram;
  readonly start: StartOptions;
  /** Path of one of the programs. */
  readonly program: (name: "llama-bench" | "llama-batched-bench") => string;
  readonly modelPath: string;
  readonly threads: number;
  readonly lengths: readonly Lengths[];
  readonly concurrency: readonly number[];
}

/**
 * One turn: each prompt and answer length once, alone and, above one, at once. As its users know
 * it: each test starts from an empty context, after a warm-up of its own.
 */
export async function llamaBench(options: LlamaBenchOptions): Promise<LlamaBenchFigure[]> {
  const { run, start, program, modelPath, threads, lengths, concurrency } = options;
  const [pp, tg] = [listed(lengths.map((one) => one.pp)), listed(lengths.map((one) => one.tg))];
  const args = [
    "-m",
    modelPath,
    "-t",
    String(threads),
    "-p",
    pp,
    "-n",
    tg,
    "-r",
    "1",
    "-o",
    "json",
  ];
  const figures = parseLlamaBench(await run(program("llama-bench"), args, start));
  const atOnce = concurrency.filter((count) => count > 1);
  if (atOnce.length === 0) return figures;
  return [...figures, ...await llamaBatchedBench({ ...options, concurrency: atOnce })];
}

/** One turn of several sequences at once, each with a prompt of its own. */
export async function llamaBatchedBench(options: LlamaBenchOptions): Promise<LlamaBenchFigure[]> {
  const { run, start, program, modelPath, threads, lengths, concurrency } = options;
  const most = Math.max(...concurrency) * Math.max(...lengths.map((one) => one.pp + one.tg));
  const args = [
    ...["-m", modelPath, "-t", String(threads), "-tb", String(threads), "-c", String(most)],
    ...["-npp", listed(lengths.map((one) => one.pp)), "-ntg", listed(lengths.map((one) => one.tg))],
    ...["-npl", listed(concurrency), "--output-format", "jsonl"],
  ];
  return parseBatchedBench(await run(program("llama-batched-bench"), args, start));
}

function listed(numbers: readonly number[]): string {
  return [...new Set(numbers)].join(",");
}
