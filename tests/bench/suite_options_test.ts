import { deepEqual, equal, throws } from "node:assert/strict";
import { commandOf, suiteOptions } from "../../bench/suite_options.ts";
import { AppError } from "../../core/errors.ts";

Deno.test("Without flags nothing but exo is measured, on all cores", () => {
  const options = suiteOptions([], 6);
  deepEqual([options.peers, options.threads, options.rounds], [[], 6, 3]);
  deepEqual([options.pp, options.tg, options.concurrency], [64, 16, [1]]);
  equal(options.write, false);
});

Deno.test("The command of a report asks for the same, without this machine's folders", () => {
  const args = "--peer llama.cpp --peer mlx-lm --model /some/where/m.gguf --rounds 2 --pp 512 " +
    "--tg 32 --threads 1 --concurrency 1,4,4 --peers-dir /tmp/x --write";
  const options = suiteOptions(args.split(" "), 2);
  equal(
    commandOf(options),
    "deno task bench --peer llama.cpp --peer mlx-lm --model m.gguf --rounds 2 --warmup 1 " +
      "--threads 1 --pp 512 --tg 32 --concurrency 1,4 --starts 7 --idle 20 --write",
  );
  const again = suiteOptions(commandOf(options).split(" ").slice(3), 2);
  deepEqual(again, { ...options, model: "m.gguf", peersDir: undefined });
});

Deno.test("A flag that cannot be used is named, with what is needed", () => {
  const wrong = [
    [["--peer", "vllm"], 'Cannot use --peer "vllm": mlx-lm or llama.cpp needed'],
    [["--pp", "0"], 'Cannot use --pp "0": a whole number from 1 to 1000000 needed'],
    [
      ["--concurrency", "1,x"],
      'Cannot use --concurrency "x": a whole number from 1 to 1000000 needed',
    ],
  ] as const;
  for (const [args, message] of wrong) {
    throws(() => suiteOptions(args, 2), (error: AppError) => {
      deepEqual([error.code, error.message], ["usage", message]);
      return error.hint !== undefined;
    });
  }
  throws(() => suiteOptions(["--speed"], 2), /Cannot read the flags: .*--speed/);
});
