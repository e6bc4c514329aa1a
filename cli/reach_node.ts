import { ApiClient } from "../api/client.ts";
import { AppError } from "../core/errors.ts";
import type { CommandContext } from "./command.ts";
import type { Host, HostOptions } from "./host.ts";
import type { Io } from "./io.ts";

/** A node that answers: one that runs already, or one of this process. */
export interface ReachedNode extends AsyncDisposable {
  readonly client: ApiClient;
  /** The same API under a signal of its own. */
  readonly connect: (signal: AbortSignal) => ApiClient;
  /** Whether it was started for this command, and stops when this is disposed. */
  readonly isOwn: boolean;
  /** Has `work` done before the node is left, the last one first. */
  onLeave(work: () => Promise<void>): void;
}

/** How a node may be come by. */
export interface ReachOptions {
  /** Whether one is started when none answers at the usual address. */
  readonly mayStart: boolean;
  /** Starts it; a test brings its own. */
  readonly start?: (options: HostOptions, io: Io) => Promise<StartedNode>;
}

/** What this needs of a node that it started. */
interface StartedNode extends Pick<Host, "stop"> {
  readonly api: { readonly url: string } | undefined;
}

type Context = Pick<
  CommandContext<unknown>,
  "client" | "connect" | "isUrlGiven" | "io" | "out"
>;

/**
 * The node that a command asks: the one that the user named, the usual one of this machine, or,
 * when that does not answer, one of this process on the usual data directory.
 * @throws {AppError} `node_unreachable`, or why none could be started.
 */
export async function reachNode(
  context: Context,
  { mayStart, start = startLazily }: ReachOptions,
): Promise<ReachedNode> {
  const { client, connect, isUrlGiven, io, out } = context;
  if (isUrlGiven || !mayStart || await answers(client)) return reached({ client, connect });
  out.note("No node runs: starting one for this command");
  const onProgress = (line: string) => out.note(line);
  const options = { host: "127.0.0.1", port: 0, auth: true, worker: true, api: true, onProgress };
  const host = await start(options, io).catch((error) => {
    throw withUsefulHint(error);
  });
  const connectOwn = (signal: AbortSignal) => new ApiClient({ url: host.api?.url ?? "", signal });
  return reached({ client: connectOwn(io.signal), connect: connectOwn }, host);
}

/** Who holds the data directory is a node of this machine, at an address that we were not told. */
function withUsefulHint(error: unknown): unknown {
  if (!(error instanceof AppError) || error.code !== "conflict") return error;
  const hint = "name the node that runs with --url";
  return new AppError(error.code, error.message, { hint, cause: error });
}

/** Loads the node's parts only now: a command that finds a node needs none of them. */
async function startLazily(options: HostOptions, io: Io): Promise<Host> {
  const { startHost } = await import("./host.ts");
  return await startHost(options, io);
}

async function answers(client: ApiClient): Promise<boolean> {
  try {
    await client.nodeId();
    return true;
  } catch (error) {
    if (error instanceof AppError && error.code === "node_unreachable") return false;
    throw error;
  }
}

function reached(
  api: Pick<ReachedNode, "client" | "connect">,
  own?: Pick<Host, "stop">,
): ReachedNode {
  const leaving = new AsyncDisposableStack();
  if (own) leaving.defer(() => own.stop());
  return {
    ...api,
    isOwn: own !== undefined,
    onLeave: (work) => leaving.defer(work),
    [Symbol.asyncDispose]: () => leaving.disposeAsync(),
  };
}
