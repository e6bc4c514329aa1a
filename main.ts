import { ignoresHangup } from "./cli/hangup.ts";
import { systemIo } from "./cli/io.ts";
import { runCli } from "./cli/mod.ts";

const INTERRUPTED = 130;

const interrupt = new AbortController();
// A signal meant for the node reaches its runners too: they have handlers of their own.
const isRunner = Deno.args[0] === "runner";
// Asked before the first listener, with which Deno takes all these signals for itself.
const isHangupIgnored = ignoresHangup();
for (const name of isRunner ? [] : ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.addSignalListener(name, () => {
    if (name === "SIGHUP" && isHangupIgnored) return;
    // The first asks a command to end; whoever asks twice does not want to wait for it.
    if (interrupt.signal.aborted) Deno.exit(INTERRUPTED);
    interrupt.abort();
  });
}

Deno.exit(await runCli(Deno.args, systemIo(interrupt.signal)));
