/** A runner that leaves MLX's counters in the file `EXO_COUNTERS_FILE` when it is sent SIGUSR2. */
import { runRunnerProcess } from "../../engines/process.ts";
import { memoryCounters } from "../../ffi/mod.ts";

const file = Deno.env.get("EXO_COUNTERS_FILE");
if (file) {
  Deno.addSignalListener("SIGUSR2", () => {
    Deno.writeTextFileSync(`${file}.new`, JSON.stringify(memoryCounters()));
    // Renamed, so that whoever waits for the file reads all of it.
    Deno.renameSync(`${file}.new`, file);
  });
}
Deno.exit(await runRunnerProcess(Number(Deno.args[Deno.args.indexOf("--incarnation") + 1])));
