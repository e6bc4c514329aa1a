import { deepEqual, throws } from "node:assert/strict";
import { commandOf, servingOptions } from "../../bench/serving_options.ts";

Deno.test("Without flags what issue 6 asks for is measured, on all cores", () => {
  deepEqual(servingOptions([], 2), {
    ...{ model: undefined, rounds: 3, threads: 2, pp: 64, tg: 128, longPp: 2_000 },
    ...{ concurrency: [1, 4, 8, 16], peersDir: undefined, write: false },
  });
});

Deno.test("The command of a report asks for the same, without this machine's folders", () => {
  const args = "--model /some/where/m.gguf --rounds 5 --threads 3 --pp 32 --tg 8 --long-pp 500 " +
    "--concurrency 2,4 --peers-dir /tmp/x --write";
  const options = servingOptions(args.split(" "), 4);
  const again = servingOptions(commandOf(options).split(" ").slice(3), 4);
  deepEqual(again, { ...options, model: "m.gguf", peersDir: undefined });
});

Deno.test("A flag that cannot be used is named, with what is needed", () => {
  throws(
    () => servingOptions(["--long-pp", "0"], 2),
    /Cannot use --long-pp "0": a whole number from 1 to 1000000 needed/,
  );
  throws(() => servingOptions(["--speed"], 2), /Cannot read the flags: .*--speed/);
});
