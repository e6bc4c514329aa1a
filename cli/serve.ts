import { join } from "node:path";
import { z } from "zod";
import { type Directories, directories } from "../core/directories.ts";
import { defineCommand } from "./command.ts";
import { startHost } from "./host.ts";
import { configureLogs } from "./logs.ts";
import { NETWORK_FLAGS, openToAll, readNetwork, unanswered } from "./network_flags.ts";

/** Port of the API unless the user says otherwise. */
export const API_PORT = 52_415;

/** How long a named node may take to answer before the user hears that none does. */
const BOOTSTRAP_PATIENCE_MS = 5_000;

/** `exo serve`. */
export const serve = defineCommand({
  name: "serve",
  summary: "Run a node on this machine",
  description: "Runs until it is interrupted; its instances come back at the next start",
  example: [
    "serve",
    "serve --host 0.0.0.0 --api-key SECRET",
    "serve --bootstrap 192.168.1.20:52414 --cluster-secret cluster-secret",
    "serve --log-format json -v",
  ],
  isLocal: true,
  args: z.object({
    port: z.number().int().min(0).max(65_535).default(API_PORT)
      .describe("Port of the API; 0 takes a free one").meta({ env: "EXO_PORT" }),
    host: z.string().min(1).default("127.0.0.1")
      .describe("Address of the API; beyond this machine it needs a key").meta({ value: "ADDR" }),
    apiKey: z.string().min(1).optional()
      .describe("Key that clients must send").meta({ value: "KEY", env: "EXO_API_KEY" }),
    auth: z.boolean().default(true).describe("Serve beyond this machine without a key"),
    name: z.string().min(1).max(100).optional()
      .describe("Friendly name of this node").meta({ value: "NAME" }),
    dataDir: z.string().min(1).optional()
      .describe("Where identity and log are kept").meta({ value: "DIR" }),
    worker: z.boolean().default(true).describe("Compute nothing on this node"),
    api: z.boolean().default(true).describe("Serve no HTTP"),
    logFormat: z.enum(["text", "json"]).default("text").describe("Form of the log on stderr"),
    verbose: z.boolean().default(false).describe("Log more").meta({ short: "v" }),
    quiet: z.boolean().default(false).describe("Log warnings and errors only").meta({ short: "q" }),
    ...NETWORK_FLAGS,
  }),
  json: z.strictObject({
    nodeId: z.string().describe("Id of this node"),
    url: z.string().nullable().describe("Where its API answers; null with --no-api"),
    pid: z.number().int().describe("Process to send SIGTERM to"),
    libp2p: z.strictObject({
      namespace: z.string().describe("Only nodes of the same find each other"),
      addresses: z.array(z.string()).readonly()
        .describe("Multiaddrs with its id, for `--bootstrap` of other nodes"),
    }).describe("Where other nodes reach it"),
  }),
  async run({ args, io, out, signal }) {
    const level = args.quiet ? "warning" : args.verbose ? "debug" : "info";
    const file = logFile(directories(io), args.dataDir);
    const log = await configureLogs({ level, format: args.logFormat, sink: io.stderr, file });
    const { network, ringPorts, warnings } = await readNetwork(args, io);
    for (const warning of warnings) log.warn("{warning}", { warning });
    if (!network.privateNetworkKey) log.info("{words}", { words: openToAll(network) });
    const host = await startHost({
      ...args,
      network,
      ringPorts,
      onProgress: (line) => log.info("{line}", { line }),
      onRequest: ({ requestId, method, path, status, ms }) =>
        log.debug("{method} {path} {status} in {ms} ms, request {requestId}", {
          requestId,
          method,
          path,
          status,
          ms,
        }),
      onCrowded: (why) => log.warn("{why}", { why }),
      onDefect: (error, route) => log.error("defect in {route}: {error}", { route, error }),
    }, io);
    const { nodeId } = host.node;
    const url = host.api?.url ?? null;
    const where = url === null ? "without an API" : `on ${url}`;
    const { addresses } = host;
    log.info("other nodes reach this one at {addresses}", { addresses: addresses.join(", ") });
    const libp2p = { namespace: network.namespace, addresses };
    const words = `exo node ${nodeId} ${where}; Ctrl-C stops it`;
    out.result({ nodeId, url, pid: Deno.pid, libp2p }, words);
    const patience = setTimeout(() => {
      const isAlone = host.node.network().peerCount === 0;
      if (isAlone && network.bootstrap.length > 0) {
        log.warn("{words}", { words: unanswered(network.bootstrap) });
      }
    }, BOOTSTRAP_PATIENCE_MS);
    if (!signal.aborted) {
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    }
    clearTimeout(patience);
    await host.stop();
  },
});

/** A node on a data directory of its own logs there, so that no two nodes share a file. */
function logFile({ cache }: Directories, dataDir: string | undefined): string {
  return join(dataDir ?? cache, "exo_log", "exo.log");
}
