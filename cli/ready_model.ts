import { resolve } from "node:path";
import type { ApiClient } from "../api/client.ts";
import { isLoopback } from "../api/guard.ts";
import type { ModelObject } from "../api/models.ts";
import { AppError } from "../core/errors.ts";
import { follow, summaries } from "./instance_view.ts";
import type { Io } from "./io.ts";
import type { Output } from "./output.ts";
import type { ReachedNode } from "./reach_node.ts";
import { suggesting } from "./suggest.ts";

/** The whole id of a model with a ready instance; adds and places it where that is missing. */
export async function readyModel(
  node: ReachedNode,
  wanted: string,
  { io, out }: { io: Io; out: Output },
): Promise<string> {
  const { client } = node;
  const path = modelPath(wanted, io);
  const model = path === undefined
    ? await suggesting(client, wanted, client.showModel(wanted))
    : await addedModel(client, path);
  if (!model.running) {
    // A second one beside it would stay; the API tells why a declared model has none.
    if (await isDeclared(client, model.id)) return model.id;
    out.note(`Creating an instance of ${model.id}`);
    const { instanceId } = await client.placeInstance({ model: model.id });
    if (node.isOwn) node.onLeave(() => forget(node, instanceId));
  }
  await requirePresent(client, model.id);
  await follow(client.awaitInstance({ model: model.id }), out);
  return model.id;
}

/** An instance that waits for a node which is gone may do so for ever; whoever asks may not. */
async function requirePresent(client: ApiClient, modelId: string): Promise<void> {
  const instances = summaries(await client.state()).filter((one) => one.modelId === modelId);
  if (instances.length === 0 || instances.some(({ status }) => status !== "absent")) return;
  const found = `found no instance but ${instances.length} of nodes that are gone`;
  throw new AppError("not_ready", `Cannot run ${modelId}: ${found}, one that is there needed`, {
    hint: `start those nodes again, or place it elsewhere: exo instance create ${modelId}`,
  });
}

async function isDeclared(client: ApiClient, modelId: string): Promise<boolean> {
  const { metaInstances } = await client.state();
  return Object.values(metaInstances).some((meta) => meta.modelId === modelId);
}

/**
 * The absolute path that a model is named by: one that says so by its beginning, a GGUF file, or
 * a folder that exists. Undefined for the id of a model.
 */
export function modelPath(wanted: string, { cwd, home }: Pick<Io, "cwd" | "home">) {
  const isTilde = wanted === "~" || wanted.startsWith("~/");
  const path = isTilde ? resolve(home, `.${wanted.slice(1)}`) : resolve(cwd, wanted);
  const isSaid = isTilde || /^(\/|\.\.?(\/|$))/.test(wanted) || /\.gguf$/i.test(wanted);
  return isSaid || isFolder(path) ? path : undefined;
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/**
 * Registers the model that lies at `path`.
 * @throws {AppError} `usage` on another machine, where the path means something else.
 */
export async function addedModel(client: ApiClient, path: string): Promise<ModelObject> {
  const { url } = client;
  const host = URL.parse(url)?.hostname.replace(/^\[|\]$/g, "");
  if (host === "localhost" || isLoopback(host)) return await client.addModel(path);
  throw new AppError("usage", `Cannot add ${path} to ${url}: a node of this machine is needed`, {
    hint: "name a model that the node knows; exo models list shows them",
  });
}

/** A node that starts for one command would else load this model at each of its later starts. */
async function forget(node: ReachedNode, instanceId: string): Promise<void> {
  try {
    // Under a signal of its own: the user's may be what ended the command.
    await node.connect(new AbortController().signal).deleteInstance(instanceId);
  } catch {
    // The node stops anyway; what it kept shows in its next exo instance list.
  }
}
