import { networkOf, ringHop } from "./addresses.ts";
import type { InstanceId, NodeId } from "./ids.ts";
import { type Instance, runnersOf } from "./instance.ts";
import type { PrefillSource } from "./prefill.ts";
import type { State } from "./state.ts";
import { isInFlight } from "./task.ts";
import type { Telemetry } from "./telemetry.ts";

/** Whether an instance prefills for others and decodes for none: it answers no text itself. */
export function isPrefillOnly({ instanceLinks }: State, instanceId: InstanceId): boolean {
  const links = [...instanceLinks.values()];
  return links.some(({ prefillInstances }) => prefillInstances.includes(instanceId)) &&
    !links.some(({ decodeInstances }) => decodeInstances.includes(instanceId));
}

/**
 * Who may prefill for an instance: the least busy of those that are linked to it, serve prefills on
 * a single rank, and can be reached. Undefined: it does it itself.
 */
export function prefillSource(
  state: State,
  decode: Instance,
  { telemetry, load }: { telemetry: Telemetry; load: (instanceId: InstanceId) => number },
): PrefillSource | undefined {
  const linked = [...state.instanceLinks.values()]
    .filter(({ decodeInstances }) => decodeInstances.includes(decode.instanceId))
    .flatMap(({ prefillInstances }) => prefillInstances)
    .filter((id) => id !== decode.instanceId);
  if (linked.length === 0) return undefined;
  const busy = (id: InstanceId) => load(id) + prefillsOf(state, id);
  const byLoad = [...new Set(linked)].toSorted((a, b) => busy(a) - busy(b));
  const [first] = runnersOf(decode);
  const from = nodesOf(decode).find(([, runnerId]) => runnerId === first)?.[0];
  const network = networkOf(state, telemetry);
  for (const instanceId of byLoad) {
    const source = state.instances.get(instanceId);
    const [rank, ...others] = source ? nodesOf(source) : [];
    // Each rank of several has a part of the keys and values alone.
    if (!from || !rank || others.length > 0) continue;
    const [nodeId, runnerId] = rank;
    const serves = state.runners.get(runnerId)?.prefillTokensPerSecond !== undefined;
    if (serves && ringHop(network, from, nodeId)) return { instanceId, nodeId };
  }
  return undefined;
}

/** Tasks in flight whose prompts an instance may be reading for others. */
function prefillsOf({ tasks }: State, instanceId: InstanceId): number {
  return [...tasks.values()]
    .filter((task) => isInFlight(task) && task.prefill?.instanceId === instanceId).length;
}

type Rank = [NodeId, ReturnType<typeof runnersOf>[number]];

function nodesOf({ shardAssignments }: Instance): Rank[] {
  return Object.entries(shardAssignments.nodeToRunner) as Rank[];
}
