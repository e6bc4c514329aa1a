import { deepEqual, throws } from "node:assert/strict";
import { commandOf, engineOptions } from "../../bench/engine_options.ts";
import { AppError } from "../../core/errors.ts";

Deno.test("Without flags the engine is measured on one thread and on all cores", () => {
  deepEqual(engineOptions([], 2), {
    ...{ model: undefined, rounds: 5, threads: [1, 2], pp: 512, tg: 64, concurrency: [4, 8] },
    ...{ instructions: "native", peersDir: undefined, write: false },
  });
  deepEqual(engineOptions([], 1).threads, [1]);
});

Deno.test("The command of a report asks for the same, without this machine's folders", () => {
  const args = "--model /some/where/m.gguf --rounds 3 --threads 2,2 --pp 64 --tg 8 " +
    "--concurrency 2 --instructions avx2 --peers-dir /tmp/x --write";
  const options = engineOptions(args.split(" "), 4);
  const again = engineOptions(commandOf(options).split(" ").slice(3), 4);
  deepEqual(again, { ...options, model: "m.gguf", peersDir: undefined });
});

Deno.test("A flag that cannot be used is named, with what is needed", () => {
  throws(() => engineOptions(["--tg", "1"], 2), (error: AppError) => {
    deepEqual(error.message, 'Cannot use --tg "1": a whole number from 2 to 1000000 needed');
    return error.code === "usage";
  });
  throws(
    () => engineOptions(["--instructions", "mmx"], 2),
    /Cannot use --instructions "mmx": native or avx2 needed/,
  );
  throws(() => engineOptions(["--speed"], 2), /Cannot read the flags: .*--speed/);
});
