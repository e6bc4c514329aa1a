import type { NodeId } from "../../core/ids.ts";
import { type Instance, rankOn, runnersOf } from "../../core/instance.ts";
import type { State } from "../../core/state.ts";
import { isInFlight } from "../../core/task.ts";
import { formatBytes } from "../../core/units.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

type Holds = (condition: boolean, property: string, detail: () => string) => void;

/** What holds in every state: each entry has an owner. */
export function checkState(state: State, holds: Holds): void {
  const runners = new Set([...state.instances.values()].flatMap(runnersOf));
  for (const id of state.runners.keys()) {
    holds(runners.has(id), "every runner has an instance", () => id);
  }
  for (const id of state.instanceRetries.keys()) {
    holds(state.instances.has(id), "every retry has an instance", () => id);
  }
  for (const { taskId, instanceId, ...task } of state.tasks.values()) {
    const isOwned = !isInFlight({ taskId, instanceId, ...task }) || state.instances.has(instanceId);
    holds(isOwned, "every task in flight has an instance", () => `${taskId} of ${instanceId}`);
  }
  for (const { linkId, prefillInstances, decodeInstances } of state.instanceLinks.values()) {
    for (const id of [...prefillInstances, ...decodeInstances]) {
      holds(
        state.instances.has(id),
        "every end of a link is an instance",
        () => `${linkId}: ${id}`,
      );
    }
  }
  for (const nodeId of state.downloads.keys()) {
    holds(state.nodes.has(nodeId), "every download has a node", () => nodeId);
  }
  for (const [source, sinks] of state.connections) {
    for (const sink of sinks.keys()) {
      const both = state.nodes.has(source) && state.nodes.has(sink);
      holds(both, "every edge has its ends", () => `${source} to ${sink}`);
    }
  }
  checkStamps(state, holds);
}

/** Each intent has a stamp, and nothing else has one. */
function checkStamps(state: State, holds: Holds): void {
  const keys = [
    ...[...state.customModelCards.keys()].map((id) => `card:${id}` as const),
    ...[...state.instanceLinks.keys()].map((id) => `link:${id}` as const),
    ...[...state.metaInstances.keys()].map((id) => `meta:${id}` as const),
    ...[...state.instances.keys()].map((id) => `instance:${id}` as const),
  ];
  for (const key of keys) holds(state.stamps.has(key), "every intent has a stamp", () => key);
  holds(state.stamps.size === keys.length, "every stamp has an intent", () => {
    const known = new Set<string>(keys);
    return [...state.stamps.keys()].filter((key) => !known.has(key)).join(", ");
  });
}

/** Bytes of weights that an instance puts on a node. */
export function weightBytes(instance: Instance, nodeId: NodeId): number {
  const shard = rankOn(instance, nodeId)?.shard;
  if (!shard) return 0;
  const { modelCard, startLayer, endLayer, nLayers, worldSize, type } = shard;
  const part = type === "TensorShardMetadata" ? 1 / worldSize : (endLayer - startLayer) / nLayers;
  return Math.floor(modelCard.storageSize.inBytes * part);
}

/**
 * What a master promises on a node never exceeds what the node has: a sum over the instances of
 * its state, beside the reckoning of `core/`.
 */
export function checkMemory(world: World, master: SimNode, instance: Instance): void {
  for (const id of Object.keys(instance.shardAssignments.nodeToRunner)) {
    const nodeId = id as NodeId;
    const node = world.nodeOf(nodeId);
    if (!node) continue;
    const { ramTotalBytes, ramBaseBytes } = node.facts;
    const all = [...master.state.instances.values()];
    // Those behind it came later, some of them by a merge, which nobody can refuse.
    const at = all.findIndex(({ instanceId }) => instanceId === instance.instanceId);
    const promised = all.slice(0, at + 1).reduce((sum, one) => sum + weightBytes(one, nodeId), 0);
    const available = ramTotalBytes - ramBaseBytes;
    world.checker.holds(
      promised <= available,
      "memory is not booked twice",
      () =>
        `${master.nodeId} places ${instance.instanceId}: ${formatBytes(promised)} promised on ` +
        `${nodeId}, ${formatBytes(available)} there`,
    );
  }
}
