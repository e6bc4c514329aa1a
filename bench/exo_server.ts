import { join } from "node:path";
import { ApiClient } from "../api/client.ts";
import { NODE_V8_FLAGS } from "../core/v8_flags.ts";
import type { InstanceConfig } from "../core/instance.ts";
import { freePort, whenHealthy } from "./network.ts";
import { childrenOf } from "./process_usage.ts";
import type { Processes, StartedProcess } from "./processes.ts";
import type { ModelServer, RunningServer } from "./server.ts";

const MAIN = new URL("../main.ts", import.meta.url).pathname;
const FLAGS = `--v8-flags=${NODE_V8_FLAGS.join(",")}`;

/** Longest wait for an instance. */
const READY_SECONDS_MAX = 600;

/** A node that answers, without a model. */
export interface StartedNode {
  readonly url: string;
  readonly process: StartedProcess;
  /** From the start of its process to the first 200 of `/readyz`. */
  readonly startMs: number;
}

/** How nodes are started. */
export interface NodeOptions {
  readonly processes: Processes;
  /** Takes the node's data directory, a new one at each start. */
  readonly scratch: string;
  /** Takes the node's log. */
  readonly logs: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Starts a node from source on a free port, as `exo serve` does. */
export async function startNode(
  { processes, scratch, logs, env }: NodeOptions,
): Promise<StartedNode> {
  const dataDir = await Deno.makeTempDir({ dir: scratch, prefix: "node-" });
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  // Nothing else of this network may take part in what is measured.
  const alone = ["--namespace", `bench-${crypto.randomUUID()}`, "--libp2p-port", "0"];
  const serve = ["serve", "-q", "--port", String(port), "--data-dir", dataDir, ...alone];
  const startedAt = performance.now();
  const process = processes.start(Deno.execPath(), ["run", "-A", FLAGS, MAIN, ...serve], {
    logPath: join(logs, "exo.log"),
    env,
  });
  await whenHealthy(`${url}/readyz`, process);
  return { url, process, startMs: performance.now() - startedAt };
}

/** What exo serves the model with. */
export interface ExoOptions extends NodeOptions {
  readonly version: string;
  readonly modelPath: string;
  readonly threads: number;
  readonly contextTokens: number;
  /** Requests that are answered at once; absent: as many as an instance takes by itself. */
  readonly maxConcurrentRequests?: number;
  readonly signal: AbortSignal;
}

/** Exo itself, from this checkout. */
export function exoServer(options: ExoOptions): ModelServer {
  const { version, modelPath, threads, contextTokens, maxConcurrentRequests, signal } = options;
  const config = {
    contextTokens,
    ...(maxConcurrentRequests === undefined ? {} : { maxConcurrentRequests }),
  };
  const atOnce = maxConcurrentRequests ? `, ${maxConcurrentRequests} requests at once` : "";
  return {
    name: "exo",
    version,
    settings: `from source, EXO_THREADS=${threads}, a context of ${contextTokens} tokens${atOnce}`,
    async start(): Promise<RunningServer> {
      const { url, process } = await startNode(options);
      try {
        const client = new ApiClient({ url, apiKey: undefined, signal });
        const { id: model } = await client.addModel(modelPath);
        const loaded = await load(client, model, config);
        const [runner] = childrenOf(process.pid);
        const pids = { ...(runner === undefined ? {} : { model: runner }), node: process.pid };
        return { url, model, ...loaded, pids, stop: () => process.stop() };
      } catch (error) {
        await process.stop();
        throw error;
      }
    },
  };
}

/** Places an instance and takes the time of what it goes through until it is ready. */
async function load(client: ApiClient, model: string, config: InstanceConfig) {
  const loadStartedAt = performance.now();
  const firstSeenMs = new Map<string, number>();
  const { instanceId } = await client.placeInstance({ model, config });
  const wait = client.awaitInstance({ instanceId }, { timeoutSeconds: READY_SECONDS_MAX });
  for await (const message of wait) {
    const ms = performance.now() - loadStartedAt;
    const statuses = message.type === "progress"
      ? Object.values(message.runners).map(({ status }) => status)
      : ["RunnerReady"];
    for (const status of statuses) {
      if (!firstSeenMs.has(status)) firstSeenMs.set(status, ms);
    }
  }
  const loadMs = performance.now() - loadStartedAt;
  return { loadStartedAt, loadMs, loadPartsMs: loadParts(firstSeenMs) };
}

/**
 * The parts of a load from the first sight of each status; none unless it was seen at work, since
 * a client sees changes that come together as one.
 */
export function loadParts(firstSeenMs: ReadonlyMap<string, number>): Record<string, number> {
  const loading = firstSeenMs.get("RunnerLoading");
  const loaded = firstSeenMs.get("RunnerLoaded") ?? firstSeenMs.get("RunnerWarmingUp");
  const ready = firstSeenMs.get("RunnerReady");
  if (loading === undefined || loaded === undefined || ready === undefined) return {};
  return { startRunner: loading, loadModel: loaded - loading, warmUp: ready - loaded };
}
