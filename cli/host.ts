import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type ApiServer,
  checkAddress,
  type ListenOptions,
  type RequestRecord,
  serveApi,
} from "../api/server.ts";
import { isLoopback } from "../api/guard.ts";
import { apiKeyFile, directories, resourcesDirectory } from "../core/directories.ts";
import { AppError } from "../core/errors.ts";
import type { PortRange } from "../core/ports.ts";
import { RUNNER_V8_FLAGS } from "../core/v8_flags.ts";
import { findLibrary } from "../ffi/library.ts";
import { ensureSetup } from "../ffi/setup.ts";
import { connectLibp2p } from "../net/libp2p.ts";
import type { Identity } from "../node/identity.ts";
import { Node } from "../node/node.ts";
import { deviceFileOf } from "../node/probe.ts";
import type { RunnerLaunch } from "../node/runner_process.ts";
import { isDisaggregated, nodeEnvironment, showsImageModels } from "./environment.ts";
import type { Io } from "./io.ts";
import type { NetworkOptions } from "./network_flags.ts";
import { VERSION } from "./version.ts";

/** What a node on this machine is started with. */
export interface HostOptions {
  readonly host: string;
  readonly port: number;
  readonly dataDir?: string | undefined;
  readonly name?: string | undefined;
  readonly apiKey?: string | undefined;
  /** Whether an API beyond this machine needs a key. */
  readonly auth: boolean;
  /** Whether this node computes. */
  readonly worker: boolean;
  /** Whether this node serves HTTP. */
  readonly api: boolean;
  /** How it takes part in the network; absent: it is alone. */
  readonly network?: NetworkOptions | undefined;
  /** Where ranks of instances meet; absent: at any dynamic port. */
  readonly ringPorts?: PortRange | undefined;
  /** How runners are started; absent: as this program. */
  readonly launch?: RunnerLaunch | undefined;
  /** Hears of the steps that take time. */
  readonly onProgress?: (line: string) => void;
  readonly onDefect?: (error: unknown, route: string) => void;
  readonly onRequest?: (record: RequestRecord) => void;
  /** Told why connections are not taken. */
  readonly onCrowded?: (why: string) => void;
}

/** A node of this process with its API. */
export interface Host {
  readonly node: Node;
  readonly api: ApiServer | undefined;
  /** Where other nodes reach it: multiaddrs with its id; none when it is alone. */
  readonly addresses: readonly string[];
  /** Ends runners, streams and the server; a second call waits for the first. */
  stop(): Promise<void>;
}

/**
 * Starts a node and its API.
 * @throws {AppError} what is missing, taken or unsafe.
 */
export async function startHost(options: HostOptions, io: Io): Promise<Host> {
  checkExposure(options);
  const environment = nodeEnvironment(io.env);
  const features = {
    showsImageModels: showsImageModels(io.env),
    isDisaggregated: isDisaggregated(io.env),
  };
  if (options.api) checkAddress(options.host, options.port);
  const homes = directories(io);
  const dataDir = options.dataDir ?? homes.data;
  const libraryPath = options.worker ? await interruptible(library(options), io) : undefined;
  const network = options.network && joining(options.network);
  const node = await Node.start({
    dataDir,
    version: VERSION,
    name: options.name,
    connect: network?.connect,
    ringPorts: options.ringPorts,
    deviceFile: libraryPath === undefined ? undefined : deviceFileOf(libraryPath),
    launch: options.launch ?? runnerLaunch(io.env, libraryPath),
    // A node on a data directory of its own keeps them there, as its log.
    tracesDir: join(options.dataDir ?? homes.cache, "traces"),
    resourcesDir: resourcesDirectory(io),
    ...environment,
  });
  const closing = new AbortController();
  try {
    const api = options.api
      ? await listen(node, { ...options, ...features }, closing.signal)
      : undefined;
    const keyFile = apiKeyFile({ ...homes, data: dataDir });
    await leaveKey(keyFile, options.apiKey);
    let stopped: Promise<void> | undefined;
    const stop = async () => {
      // The node first: what it has to say to its clients still needs their connections.
      await node.stop();
      closing.abort();
      await api?.finished;
    };
    const addresses = network?.addresses() ?? [];
    return { node, api, addresses, stop: () => stopped ??= stop() };
  } catch (cause) {
    closing.abort();
    await node.stop();
    throw cause;
  }
}

/** The way into the network, and where others find this node once it is in. */
function joining({ namespace, port, bootstrap, privateNetworkKey }: NetworkOptions) {
  let transport: Awaited<ReturnType<typeof connectLibp2p>> | undefined;
  return {
    connect: async ({ key: identityKey }: Identity) => {
      const own = { identityKey, namespace, port, bootstrap, privateNetworkKey };
      return transport = await connectLibp2p(own);
    },
    addresses: () => transport?.addresses() ?? [],
  };
}

function listen(
  node: Node,
  options: HostOptions & Pick<ListenOptions, "showsImageModels" | "isDisaggregated">,
  signal: AbortSignal,
): Promise<ApiServer> {
  const { host: hostname, port, apiKey, onDefect, onRequest, onCrowded } = options;
  const { showsImageModels, isDisaggregated } = options;
  // Whoever chose a name for the address will use it as the host.
  const access = { apiKey, allowedHosts: [hostname] };
  const told = { onDefect, onRequest, onCrowded };
  const features = { showsImageModels, isDisaggregated };
  return serveApi(node, { hostname, port, signal, ...access, ...told, ...features });
}

/** Safe by default: whoever opens the API to a network says who may use it (design D11). */
function checkExposure({ host, apiKey, auth, api }: HostOptions): void {
  if (!api || apiKey !== undefined || !auth || host === "localhost" || isLoopback(host)) return;
  throw new AppError(
    "usage",
    `Cannot serve on ${host}: found no API key, one needed so that not anybody can use it`,
    {
      hint: "pass --api-key KEY, or --no-auth if the network is trusted",
    },
  );
}

async function library({ onProgress }: HostOptions): Promise<string> {
  try {
    await ensureSetup(onProgress ? { onProgress } : {});
    // One that the user names may not be there, which the setup leaves to them.
    return findLibrary();
  } catch (cause) {
    throw setupFailed(cause);
  }
}

/**
 * The result of `work`, unless the user interrupts first.
 * @throws {AppError} `cancelled`; what was under way is left for the next start to clear.
 */
export async function interruptible<T>(work: Promise<T>, { signal }: Io): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = () => reject(new AppError("cancelled", "Interrupted"));
  signal.addEventListener("abort", stop);
  try {
    if (signal.aborted) stop();
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** A failure of the setup in the words of the command line. */
export function setupFailed(cause: unknown): AppError {
  if (!(cause instanceof Error)) return new AppError("setup_failed", String(cause));
  const hint = "hint" in cause && typeof cause.hint === "string" ? cause.hint : undefined;
  return new AppError("setup_failed", cause.message, { hint, cause });
}

/** Variables that a runner has no business to see. */
const SECRETS = ["EXO_API_KEY", "EXO_CLUSTER_SECRET", "HF_TOKEN"];

/** How this program starts itself as a runner: from source, or as the one binary. */
export function runnerLaunch(
  env: Io["env"],
  libraryPath: string | undefined,
): RunnerLaunch {
  const main = fileURLToPath(new URL("../main.ts", import.meta.url));
  const given = Object.entries(env)
    .flatMap(([name, value]) =>
      value === undefined || SECRETS.includes(name) ? [] : [[name, value] as const]
    );
  return {
    command: Deno.execPath(),
    args: Deno.build.standalone ? ["runner"] : ["run", "-A", main, "runner"],
    env: {
      ...Object.fromEntries(given),
      // MLX's own: fences that a Mac's CPU and GPU poll, which groups wait at in each step.
      MLX_METAL_FAST_SYNCH: env.EXO_FAST_SYNCH === "false" ? "0" : "1",
      DENO_V8_FLAGS: [env.DENO_V8_FLAGS, ...RUNNER_V8_FLAGS].filter((flag) => flag).join(","),
      ...(libraryPath === undefined ? {} : { EXO_MLX_LIBRARY: libraryPath }),
    },
  };
}

/** Leaves the key where the clients of this machine find it; none, when there is none. */
async function leaveKey(file: string, apiKey: string | undefined): Promise<void> {
  await rm(file, { force: true });
  if (apiKey !== undefined) await writeFile(file, `${apiKey}\n`, { mode: 0o600 });
}
