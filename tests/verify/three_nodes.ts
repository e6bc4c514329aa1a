/** Three nodes on a network of their own, as the bars of the network want them. */
import assert from "node:assert/strict";
import type { StateView } from "../../api/client_state.ts";
import { type Cluster, type ClusterOptions, startCluster } from "../support/cluster.ts";
import type { ClusterNode } from "../support/cluster_node.ts";
import { eventually } from "../support/eventually.ts";

/** From when the last node serves until all have found each other. */
export const DISCOVERY_MS_MAX = 2_000;
/** From the answer to a command until all nodes hold the same state. */
export const AGREEMENT_MS_MAX = 1_000;

/** How long nodes may take for what no bar is about. */
const PATIENCE_MS = 60_000;

/** Each node on a machine of its own; instances may be linked. */
export const THREE: ClusterOptions = {
  nodes: 3,
  isolated: true,
  env: { ENABLE_DISAGGREGATION: "true" },
};

/** Three nodes that have met, and on which models can be placed. */
export async function threeThatMet(options: Partial<ClusterOptions> = {}): Promise<Cluster> {
  const cluster = await startCluster({ ...THREE, ...options });
  try {
    await cluster.met(PATIENCE_MS);
    await cluster.agree(PATIENCE_MS);
    await heardOfMemory(cluster);
    return cluster;
  } catch (cause) {
    const said = await cluster.stderr();
    await cluster[Symbol.asyncDispose]();
    throw new Error(`Three nodes did not meet: ${String(cause)}\n${said}`, { cause });
  }
}

/**
 * Nodes tell of their memory every second or two, and until then nothing is placed on them: it is no
 * part of the states that are equal.
 */
export async function heardOfMemory({ nodes }: Cluster): Promise<void> {
  await eventually("all nodes have heard of the memory of all", async () => {
    const states = await Promise.all(nodes.map((node) => node.state()));
    return states.every(({ nodeMemory }) => nodes.every(({ nodeId }) => nodeId in nodeMemory));
  }, PATIENCE_MS);
}

/** Who is who when a client asks one node, a second one computes, and a third is the master. */
export interface Roles {
  readonly master: ClusterNode;
  readonly worker: ClusterNode;
  readonly api: ClusterNode;
}

/** Gives the nodes their parts. */
export async function rolesOf(cluster: Cluster): Promise<Roles> {
  const master = await cluster.master();
  const [worker, api] = cluster.running.filter((node) => node !== master);
  assert.ok(worker && api, "three nodes run");
  return { master, worker, api };
}

/** An instance on a node, ready, of a model that nobody else has got from us. */
export async function placeOn(
  { client, nodeId }: ClusterNode,
  path: string,
): Promise<{ readonly model: string; readonly instanceId: string }> {
  const { id: model } = await client.addModel(path);
  const { instanceId } = await client.placeInstance({ model, nodeIds: [nodeId] });
  const waiting = client.awaitInstance({ instanceId }, { timeoutSeconds: PATIENCE_MS / 1_000 });
  for await (const _ of waiting);
  return { model, instanceId };
}

/** Waits until there are so many runners, all ready, and no task is left. */
export async function settled(
  cluster: Cluster,
  node: ClusterNode,
  runnerCount: number,
): Promise<StateView> {
  let state = await node.state();
  await eventually(`${runnerCount} runners are ready and idle`, async () => {
    state = await node.state();
    const runners = Object.values(state.runners);
    return runners.length === runnerCount && Object.keys(state.tasks).length === 0 &&
      runners.every((tagged) => "RunnerReady" in tagged);
  }, PATIENCE_MS).catch(async (cause) => {
    const { runners, tasks, instanceRetries } = state;
    const found = JSON.stringify({ runners, tasks, instanceRetries });
    throw new Error(`${cause.message}: ${found}\n${await cluster.stderr()}`, { cause });
  });
  return state;
}

/** Instances without their tags, by id. */
export function instancesOf({ instances }: Pick<StateView, "instances">) {
  return Object.entries(instances).flatMap(([id, tagged]) =>
    Object.values(tagged).map((instance) => [id, instance] as const)
  );
}

/** Whole milliseconds. */
export const ms = (milliseconds: number) => `${Math.round(milliseconds)} ms`;
