import type { ApiClient } from "../api/client.ts";
import type { BenchSubject } from "../bench/report.ts";
import { AppError, toAppError } from "../core/errors.ts";
import type { CommandContext } from "./command.ts";
import { follow } from "./instance_view.ts";
import { addedModel, modelPath } from "./ready_model.ts";
import { suggesting } from "./suggest.ts";

/** Longest time that a bench waits for an instance whose runner failed. */
const RECOVERY_SECONDS_MAX = 600;

/** What is measured; disposing deletes the instance that was made for it. */
export interface BenchTarget extends AsyncDisposable {
  /** By its whole id, where the endpoint is exo's. */
  readonly model: string;
  /** Null where the endpoint is not exo's. */
  readonly nodes: BenchSubject["nodes"];
  /** Waits until the instance serves again after its runner failed; rejects if it does not. */
  recover(): Promise<void>;
}

type Context = Pick<CommandContext<unknown>, "client" | "connect" | "io" | "out">;

/**
 * Makes sure that exo has a ready instance; any other endpoint is taken as it is.
 * @throws {AppError} why there is nothing to measure.
 */
export async function benchTarget(context: Context, wanted: string): Promise<BenchTarget> {
  const { client, connect, io, out } = context;
  refuseVersionedUrl(client.url);
  await using leaving = new AsyncDisposableStack();
  if (!await isExo(client)) {
    const dispose = () => Promise.resolve();
    return { model: wanted, nodes: null, recover: dispose, [Symbol.asyncDispose]: dispose };
  }
  const path = modelPath(wanted, io);
  const model = path === undefined
    ? await suggesting(client, wanted, client.showModel(wanted))
    : await addedModel(client, path);
  if (!model.running) {
    out.note(`Creating an instance of ${model.id} for this bench`);
    const { instanceId } = await client.placeInstance({ model: model.id });
    leaving.defer(() => remove(connect, instanceId));
  }
  const wait = { timeoutSeconds: RECOVERY_SECONDS_MAX };
  await follow(client.awaitInstance({ model: model.id }), out);
  const nodes = await nodesOf(client);
  const kept = leaving.move();
  return {
    model: model.id,
    nodes,
    recover: async () => {
      await follow(client.awaitInstance({ model: model.id }, wait), out);
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Under a signal of its own: the user's may be what ended the bench. */
async function remove(connect: Context["connect"], instanceId: string): Promise<void> {
  try {
    await connect(new AbortController().signal).deleteInstance(instanceId);
  } catch {
    // The bench has its figures; what is left shows in exo instance list.
  }
}

function refuseVersionedUrl(url: string): void {
  if (!/\/v1\/*$/.test(url)) return;
  throw new AppError("usage", `Cannot use --url ${url}: one without /v1 needed`, {
    hint: `--url ${url.replace(/\/v1\/*$/, "")}`,
  });
}

/** Only exo names its node; whether anybody answers at all shows at the first question. */
async function isExo(client: ApiClient): Promise<boolean> {
  try {
    return typeof await client.nodeId() === "string";
  } catch (error) {
    const { code } = toAppError(error);
    if (code === "node_unreachable" || code === "not_found") return false;
    throw error;
  }
}

async function nodesOf(client: ApiClient): Promise<BenchSubject["nodes"]> {
  const { nodeIdentities, nodeBackends, nodeMemory } = await client.state();
  return Object.entries(nodeIdentities).map(([nodeId, identity]) => ({
    nodeId,
    name: identity.friendlyName,
    version: identity.exoVersion,
    backends: nodeBackends[nodeId] ?? [],
    ramTotalBytes: nodeMemory[nodeId]?.ramTotal.inBytes ?? null,
  }));
}
