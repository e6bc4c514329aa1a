import { z } from "zod";
import type { BenchReport } from "../bench/report.ts";
import { ErrorFields } from "./error_json.ts";

const count = z.number().int();
const figure = z.number().nullable();

const lengths = {
  pp: count.describe("Prompt length asked for, in tokens"),
  tg: count.describe("Answer length asked for, in tokens"),
};

const Percentiles = z.strictObject({
  p50: z.number().describe("Middle value"),
  p90: z.number().describe("90 of 100 are no slower"),
  p99: z.number().describe("99 of 100 are no slower"),
});

const Gaps = Percentiles.extend({
  mean: z.number().describe("Mean"),
  max: z.number().describe("Longest"),
});

const Step = z.strictObject({
  totalMs: z.number().describe("Milliseconds of one step"),
  kernelMs: z.record(z.string(), z.number())
    .describe("Of them, within the kernels, by kind of operation"),
  outsideShare: z.number().describe("Share of the step that is in no kernel"),
});

const speeds = {
  promptTokens: count.nullable().describe("Tokens of the prompt as the endpoint counts them"),
  ttftMs: figure.describe("Milliseconds from sending the batch to the first text"),
  endToEndMs: figure.describe("Milliseconds from sending the batch to the end of the answer"),
  promptTokensPerSecond: figure.describe("Prompt tokens ÷ TTFT"),
  decodeTokensPerSecond: figure.describe("(Tokens with text − 1) ÷ (last text − first text)"),
};

const Cell = z.strictObject({
  ...lengths,
  concurrency: count.describe("Requests at once"),
  runs: count.describe("Requests that count"),
  failed: count.describe("Of them, failed"),
  short: count.describe("Of them, ended before `tg` tokens"),
  ...speeds,
  outputTokensPerSecond: figure
    .describe("All answers of a batch: tokens ÷ (last text − first text)"),
  wallTokensPerSecond: figure.describe("All answers of a batch: tokens ÷ time until the last end"),
  ttftPercentilesMs: Percentiles.nullable().describe("Milliseconds, over the runs"),
  interTokenMs: Gaps.nullable().describe("Milliseconds between two pieces, over all runs"),
  step: Step.nullable().describe("One step of decoding, as exo's engine measures it"),
});

const Run = z.strictObject({
  ...lengths,
  concurrency: count.describe("Requests at once"),
  repeat: count.describe("Batch of its cell, from 0"),
  index: count.describe("Request of its batch, from 0"),
  ...speeds,
  cachedTokens: count.nullable().describe("Prompt tokens that were taken from a cache"),
  completionTokens: count.nullable().describe("Tokens of the answer"),
  pieces: count.nullable().describe("Pieces in which the text came"),
  finishReason: z.string().nullable().describe("`stop`, `length`, or what the endpoint says"),
  lastTextMs: figure.describe("Milliseconds from sending the batch to the last text"),
  interTokenMs: Gaps.nullable().describe("Milliseconds between two pieces"),
  step: Step.nullable().describe("One step of decoding, as exo's engine measures it"),
  error: ErrorFields.nullable().describe("Why it failed; its figures are null then"),
});

const Node = z.strictObject({
  nodeId: z.string().describe("Id of the node"),
  name: z.string().describe("Friendly name"),
  version: z.string().describe("Version of exo that it runs"),
  backends: z.array(z.string()).readonly().describe("What it computes with"),
  ramTotalBytes: count.nullable().describe("Memory; null when unknown"),
});

/** What `exo bench --json` prints; the type says that it is the report of `bench/`. */
export const BenchJson: z.ZodType<BenchReport> = z.strictObject({
  schemaVersion: z.literal(1).describe("Counts up with each change that breaks a reader"),
  outcome: z.enum(["complete", "partial"]).describe("`partial`: `error` ended it early"),
  tool: z.strictObject({
    name: z.literal("exo").describe("Who measured"),
    version: z.string().describe("Version of exo that measured"),
  }).describe("What measured"),
  machine: z.strictObject({
    os: z.string().describe("Operating system of the machine that measured"),
    arch: z.string().describe("Its processor"),
    cores: count.describe("Its cores"),
    deno: z.string().describe("Version of Deno"),
  }).describe("What it measured on"),
  url: z.string().describe("Endpoint that was measured"),
  model: z.string().describe("Model by its whole id"),
  nodes: z.array(Node).readonly().nullable().describe("Null where the endpoint is not exo's"),
  startedAt: z.iso.datetime().describe("ISO 8601, UTC"),
  finishedAt: z.iso.datetime().describe("ISO 8601, UTC"),
  settings: z.strictObject({
    lengths: z.array(z.strictObject(lengths)).readonly().describe("Lengths that were paired"),
    concurrency: z.array(count).readonly().describe("Requests at once, of each cell"),
    repeat: count.describe("Batches that count, of each cell"),
    warmup: count.describe("Batches before them"),
  }).describe("What was asked for"),
  sizes: z.array(z.strictObject({
    askedTokens: count.describe("Prompt length asked for"),
    reachedTokens: count.describe("The nearest that the endpoint's tokenizer allows"),
  })).readonly().describe("Prompt lengths as reached"),
  cells: z.array(Cell).readonly().describe("Medians of each cell, over its good runs"),
  runs: z.array(Run).readonly().describe("Each request by itself"),
  failed: count.describe("Runs that failed"),
  error: ErrorFields.nullable().describe("What ended it early"),
});
