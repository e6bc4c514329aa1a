import { deepEqual, equal, throws } from "node:assert/strict";
import {
  llamaBatchedBench,
  llamaBench,
  parseBatchedBench,
  parseLlamaBench,
} from "../../../bench/peers/llama_bench.ts";
import { AppError } from "../../../core/errors.ts";

const row = (n_prompt: number, n_gen: number, avg_ts: number) => ({
  ...{ build_commit: "de3ff81", model_type: "llama 135M Q4_1", n_threads: 2, stddev_ts: 0 },
  ...{ n_prompt, n_gen, avg_ts, samples_ts: [avg_ts] },
});

const batched = (pl: number) =>
  JSON.stringify({ pp: 64, tg: 16, pl, n_kv: 80, speed_pp: 100, speed_tg: 20 * pl, speed: 30 });

Deno.test("parseLlamaBench() reads prompt and decode rows", () => {
  const text = JSON.stringify([row(64, 0, 250.5), row(0, 16, 120)], null, 2);
  deepEqual(parseLlamaBench(text), [
    { kind: "prompt", tokens: 64, concurrency: 1, tokensPerSecond: 250.5 },
    { kind: "decode", tokens: 16, concurrency: 1, tokensPerSecond: 120 },
  ]);
});

Deno.test("parseBatchedBench() reads the lines that are JSON", () => {
  deepEqual(parseBatchedBench(`\nmain: n_kv_max = 320\n\n${batched(2)}\n${batched(4)}\n`), [
    { kind: "prompt", tokens: 64, concurrency: 2, tokensPerSecond: 100 },
    { kind: "decode", tokens: 16, concurrency: 2, tokensPerSecond: 40 },
    { kind: "prompt", tokens: 64, concurrency: 4, tokensPerSecond: 100 },
    { kind: "decode", tokens: 16, concurrency: 4, tokensPerSecond: 80 },
  ]);
});

Deno.test("Anything else is refused, with what was found", () => {
  for (const text of ["", "Segmentation fault", "[]", '[{"n_prompt": 64}]']) {
    const isRefused = (error: AppError) => error.message.includes(JSON.stringify(text));
    throws(() => parseLlamaBench(text), isRefused);
    throws(() => parseBatchedBench(text), AppError);
  }
});

Deno.test("llamaBench() asks for the same file, lengths and threads", async () => {
  const asked: string[] = [];
  const options = {
    run: (program: string, args: readonly string[]) => {
      asked.push([program, ...args].join(" "));
      return Promise.resolve(
        program === "llama-bench" ? JSON.stringify([row(64, 0, 1)]) : batched(4),
      );
    },
    ...{ start: { logPath: "log" }, program: (name: string) => name, modelPath: "m.gguf" },
    ...{ threads: 2, lengths: [{ pp: 64, tg: 16 }] },
  };
  equal((await llamaBench({ ...options, concurrency: [1] })).length, 1);
  equal((await llamaBench({ ...options, concurrency: [1, 4] })).length, 3);
  equal((await llamaBatchedBench({ ...options, concurrency: [2, 4] })).length, 2);
  deepEqual(asked, [
    "llama-bench -m m.gguf -t 2 -p 64 -n 16 -r 1 -o json",
    "llama-bench -m m.gguf -t 2 -p 64 -n 16 -r 1 -o json",
    "llama-batched-bench -m m.gguf -t 2 -tb 2 -c 320 -npp 64 -ntg 16 -npl 4 --output-format jsonl",
    "llama-batched-bench -m m.gguf -t 2 -tb 2 -c 320 -npp 64 -ntg 16 -npl 2,4 --output-format " +
    "jsonl",
  ]);
});
