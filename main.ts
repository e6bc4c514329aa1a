import { systemIo } from "./cli/io.ts";
import { runCli } from "./cli/mod.ts";

const INTERRUPTED = 130;

const interrupt = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.addSignalListener(name, () => {
    // The first asks a command to end; whoever asks twice does not want to wait for it.
    if (interrupt.signal.aborted) Deno.exit(INTERRUPTED);
    interrupt.abort();
  });
}

Deno.exit(await runCli(Deno.args, systemIo(interrupt.signal)));
