/**
 * `exo serve` as far as clusters of tests need it, with runners that obey a test's orders
 * (`ordered_runner_main.ts`). At SIGUSR2 it tells what is alive in it, as `measured_serve_main.ts`.
 */
import { parseArgs } from "node:util";
import { startHost } from "../../cli/host.ts";
import { systemIo } from "../../cli/io.ts";
import { configureLogs } from "../../cli/logs.ts";
import { readNetwork } from "../../cli/network_flags.ts";
import { runnerLaunch } from "../../cli/host.ts";
import { findLibrary } from "../../ffi/library.ts";
import { tellLiveBytes } from "./live_bytes.ts";

const RUNNER = new URL("./ordered_runner_main.ts", import.meta.url).pathname;

const { values } = parseArgs({
  args: Deno.args.slice(1),
  options: {
    port: { type: "string", default: "0" },
    "data-dir": { type: "string", default: "" },
    name: { type: "string", default: "node" },
    namespace: { type: "string", default: "" },
    "libp2p-port": { type: "string", default: "0" },
    bootstrap: { type: "string", multiple: true, default: [] },
    json: { type: "boolean" },
    quiet: { type: "boolean", short: "q" },
  },
});
tellLiveBytes();
const interrupt = new AbortController();
const io = systemIo(interrupt.signal);
await configureLogs({ level: "debug", format: "text", sink: io.stderr });
const { namespace, bootstrap, name } = values;
const flags = { namespace, bootstrap, libp2pPort: Number(values["libp2p-port"]) };
const { network, ringPorts } = await readNetwork(
  { ...flags, clusterSecret: undefined, ringPorts: undefined },
  io,
);
const host = await startHost({
  ...{ host: "127.0.0.1", port: Number(values.port), dataDir: values["data-dir"], name },
  ...{ auth: true, worker: true, api: true, network, ringPorts },
  launch: {
    ...runnerLaunch(io.env, findLibrary()),
    args: ["run", "-A", "--no-check", RUNNER],
  },
}, io);
const served = {
  nodeId: host.node.nodeId,
  url: host.api?.url,
  libp2p: { addresses: host.addresses },
};
Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(served)}\n`));
await new Promise<void>((resolve) => Deno.addSignalListener("SIGTERM", () => resolve()));
await host.stop();
Deno.exit(0);
